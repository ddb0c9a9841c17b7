"""The base of the errors that callers of the service see."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """One invalid field; the message says why, and what to write instead."""

    field: str
    """Its dotted path in the request, as in `data.dataset.name`."""

    code: str
    message: str


class TandemError(Exception):
    """The base of all errors that the API and the command line show to their callers."""

    code: ClassVar[str] = "error"
    advice: ClassVar[str | None] = None
    field_errors: tuple[FieldError, ...] = ()
