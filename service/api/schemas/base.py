"""Base models and types of requests and responses, which the client uses too."""

import json
from typing import Annotated, Self

from pydantic import Field, JsonValue, model_validator
from pydantic_core import to_jsonable_python

from configs.spec.base import PRINTABLE_PATTERN, Contract, Name

RunName = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE_PATTERN)]
"""The display name of a run or a sweep."""


Priority = Annotated[int, Field(ge=-100, le=100, strict=True)]
"""Place in the queue: the larger goes first."""


class RequestModel(Contract):
    """A request body. Text that cannot be encoded as UTF-8 is refused."""

    @model_validator(mode="before")
    @classmethod
    def _check_encoding(cls, document: JsonValue) -> JsonValue:
        try:
            # Programs that use the client pass models, too.
            json.dumps(document, ensure_ascii=False, default=to_jsonable_python).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a string has an unpaired surrogate, half of a character") from error
        return document


class LaunchOptions(RequestModel):
    """Name, project and priority of a new run or sweep."""

    name: RunName | None = None
    project: Name | None = None
    """The project whose share of the cluster it uses. None for the caller's project, or for
    `default` if the caller has none."""

    priority: Priority = 0
    """The larger goes first, and may preempt runs of smaller priority."""


class SpecSource(LaunchOptions):
    """The spec of a new run, or of a sweep's base run: a preset with changes, or a whole spec."""

    preset: Annotated[str | None, Field(max_length=200, examples=["digits/bckd"])] = None
    changes: dict[str, JsonValue] = Field(
        default_factory=dict, examples=[{"distillation.loc_weight": 2.0}]
    )
    """New values by dotted field of the preset's spec."""

    spec: dict[str, JsonValue] | None = None
    """The complete spec, instead of a preset."""

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.preset is None) == (self.spec is None):
            raise ValueError("give either preset or spec, not both")
        if self.spec is not None and self.changes:
            raise ValueError("changes apply to presets; put them into spec itself")
        return self


class PageQuery(Contract):
    """Cursor pagination of a list."""

    cursor: Annotated[
        str | None,
        Field(description="`next_cursor` of the previous page, with the same filters and order."),
    ] = None
    """None for the first page."""

    limit: Annotated[int, Field(ge=1, le=200, description="Items of a page.")] = 50


class FieldProblem(Contract):
    """One invalid field of a request."""

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
    """What the caller can do about it."""
