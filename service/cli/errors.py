"""What stops a command, told so that a person can act on it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError
    from rich.console import RenderableType


@dataclass(frozen=True)
class ErrorMessage:
    """Why a command did not do what was asked: what, which field, what to do."""

    summary: str
    fields: tuple[tuple[str, str], ...] = ()
    """Each field that is wrong, and what is wrong with it."""

    advice: tuple[str, ...] = ()
    log_lines: tuple[str, ...] = ()
    """Lines of a log that show the cause."""


class CliError(Exception):
    """A command that cannot go on."""

    def __init__(self, error_message: ErrorMessage) -> None:
        super().__init__(error_message.summary)
        self.error_message = error_message


def explain_error(error: Exception) -> ErrorMessage | None:
    """The refusal behind an exception; none if it is a bug of ours."""
    from pydantic import ValidationError

    from service.domain.errors import TandemError
    from service.stack.errors import StackError

    if isinstance(error, CliError):
        return error.error_message
    if isinstance(error, StackError):
        lines = getattr(error, "last_lines", ())
        return ErrorMessage(error.message, advice=(error.advice,), log_lines=lines)
    if isinstance(error, TandemError):
        return ErrorMessage(str(error), advice=(error.advice or "",))
    if isinstance(error, ValidationError):
        return _from_validation(error)
    return _from_client(error)


def render_error(refusal: ErrorMessage) -> "RenderableType":
    """The refusal on a terminal."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text.assemble(("✘ ", "red"), (refusal.summary, "bold"))]
    for name, message in refusal.fields:
        lines.append(Text.assemble("  ", (name or "spec", "yellow"), f": {message}"))
    lines += [Text(f"  │ {line}", style="dim") for line in refusal.log_lines]
    lines += [Text.assemble(("→ ", "cyan"), advice) for advice in refusal.advice if advice]
    return Group(*lines)


def _from_validation(error: "ValidationError") -> ErrorMessage:
    is_setting = error.title == "Settings"
    fields = tuple(
        (_field(item["loc"], is_setting=is_setting), item["msg"]) for item in error.errors()
    )
    if is_setting:
        return ErrorMessage("A setting is wrong.", fields, advice=("Correct the environment.",))
    return ErrorMessage(f"{error.title} is not as it should be.", fields)


def _field(location: tuple[int | str, ...], *, is_setting: bool) -> str:
    words = [str(step) for step in location]
    if is_setting and words:
        return f"TANDEM_{'_'.join(words).upper()}"
    return ".".join(words)


def _from_client(error: Exception) -> ErrorMessage | None:
    from service.client import ServiceUnreachable, TandemApiError

    if isinstance(error, ServiceUnreachable):
        return ErrorMessage(str(error), advice=("`tandem status` shows what runs.",))
    if not isinstance(error, TandemApiError):
        return None
    problem = error.problem
    fields = tuple((item.field, item.message) for item in problem.errors)
    if fields:
        return ErrorMessage(f"{problem.title}.", fields)
    return ErrorMessage(problem.detail, advice=(problem.advice or "",))
