"""Errors of a command as messages that a user can act on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError
    from rich.console import RenderableType


_EXPLAINED_BY_FIELDS = ("spec_refused", "invalid_request")
"""Codes of problems whose advice is for callers of the API."""


@dataclass(frozen=True)
class ErrorMessage:
    """An error for the terminal: what failed, which fields, what to do."""

    summary: str
    fields: tuple[tuple[str, str], ...] = ()
    """Name and problem of each invalid field."""

    advice: tuple[str, ...] = ()
    log_lines: tuple[str, ...] = ()
    """Log lines that show the cause."""


class CliError(Exception):
    """A command cannot continue; it ends with a message instead of a traceback."""

    def __init__(self, error_message: ErrorMessage) -> None:
        super().__init__(error_message.summary)
        self.error_message = error_message


def explain_error(error: Exception) -> ErrorMessage | None:
    """Convert an exception to a message; None if it is a bug and needs a traceback."""
    from pydantic import ValidationError

    from service.domain.errors.base import TandemError
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
    return _from_client(error) or _from_configs(error)


def render_error(error: ErrorMessage) -> "RenderableType":
    """Format a message for the terminal."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text.assemble(("✘ ", "red"), (error.summary, "bold"))]
    for name, message in error.fields:
        lines.append(Text.assemble("  ", (name or "spec", "yellow"), f": {message}"))
    lines += [Text(f"  │ {line}", style="dim") for line in error.log_lines]
    lines += [Text.assemble(("→ ", "cyan"), advice) for advice in error.advice if advice]
    return Group(*lines)


def _from_configs(error: Exception) -> ErrorMessage | None:
    from configs.catalog import SpecError, UnknownPreset
    from configs.http_access import AccessRefused
    from configs.tables.published import UnknownTable

    if isinstance(error, AccessRefused | UnknownTable):
        return ErrorMessage(str(error))
    if isinstance(error, UnknownPreset):
        return ErrorMessage(str(error), advice=("`tandem presets` describes each.",))
    if isinstance(error, SpecError):
        problems = tuple((problem.field, problem.message) for problem in error.problems)
        return ErrorMessage("The spec is invalid.", problems)
    return None


def _from_validation(error: "ValidationError") -> ErrorMessage:
    from configs.problems import explain_errors

    if error.title != "Settings":
        problems = explain_errors(error.errors(), None, None)
        return ErrorMessage(
            "The request is invalid.", tuple((p.field, p.message) for p in problems)
        )
    # A setting may be secret, so its value is not shown.
    problems = explain_errors(error.errors(), None, None, shows_input=False)
    return ErrorMessage(
        "A setting is invalid.",
        tuple((_format_variable(p.field), p.message) for p in problems),
        advice=("Correct the environment variable.",),
    )


def _format_variable(field: str) -> str:
    """The environment variable of a setting; empty for a problem of several settings."""
    return f"TANDEM_{field.replace('.', '_').upper()}" if field else ""


def _from_client(error: Exception) -> ErrorMessage | None:
    from service.client_transport import ServiceUnreachable, TandemApiError

    if isinstance(error, ServiceUnreachable):
        return ErrorMessage(str(error), advice=("`tandem status` shows which components run.",))
    if not isinstance(error, TandemApiError):
        return None
    problem = error.problem
    fields = tuple((item.field, item.message) for item in problem.errors)
    if fields:
        advice = () if problem.code in _EXPLAINED_BY_FIELDS else (problem.advice or "",)
        return ErrorMessage(f"{problem.title}.", fields, advice)
    return ErrorMessage(problem.detail, advice=(problem.advice or "",))
