"""What the API takes. The client speaks these too."""

import json
from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from configs.spec.base import Contract, Name

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""A name is an argument of the job's command line: no shell takes a NUL there."""


RunName = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)]
"""What a run is called on screen."""


Priority = Annotated[int, Field(ge=-100, le=100, strict=True)]


class RequestModel(Contract):
    """What a person asks; text that cannot be written down is refused."""

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, document: JsonValue) -> JsonValue:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "a text holds half of a character (a surrogate without its pair)"
            ) from error
        return document


class LaunchOptions(RequestModel):
    """Whose run it is, and how it stands to others."""

    name: RunName | None = None
    project: Name | None = None
    """Whose share of the cluster it takes; none: the caller's own, else `default`."""

    priority: Priority = 0
    """The larger goes first, and may have runs of smaller priority make room."""


class PageQuery(Contract):
    """Which part of a list."""

    cursor: str | None = None
    """The last id of the page before."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50


class FieldProblem(Contract):
    """One field that is wrong."""

    field: str
    code: str
    message: str


class ProblemView(Contract):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] = Field(default_factory=list)
    advice: str | None = None
    """What to do about it."""
