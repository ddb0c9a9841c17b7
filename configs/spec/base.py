"""The base model and the common types of all messages and files."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from configs import building


class Contract(BaseModel):
    """A message or file that another process reads: immutable, without unknown fields.

    What is built here is strict. A reader of messages between versions, which a service and its
    workers may have different ones of, passes `extra="ignore"` to `model_validate_json`: an older
    reader understands a newer writer as far as it can.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_enum_values=False,
        defer_build=building.is_deferred(),
    )


def _to_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a time zone; write it in UTC, as in 2026-11-23T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this time is before year 1 or after year 9999 in UTC") from error


OMIT_IF_NONE = Field(exclude_if=lambda value: value is None)
"""For a field that earlier versions did not have: where it is None, documents and their digests are
the same as theirs."""

UtcDatetime = Annotated[datetime, AfterValidator(_to_utc)]
"""A time with a time zone, converted to UTC."""

Task = Literal["train", "evaluate", "export", "probe", "report"]
"""The task of a run."""

TeacherControl = Literal["random_teacher", "shuffled_teacher"]
"""What a distilled run is compared with to see whether its gain needs the teacher's knowledge: the
teacher's architecture with untrained weights, or the teacher's outputs of another image."""

_CONTROL = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""Control characters of ASCII and of ISO 8859 (C1), which terminals obey; those that change the
direction of text, so that it reads as something else; and Unicode's ends of lines."""

PRINTABLE_PATTERN = f"^[^{_CONTROL}]*$"
"""A text of one line that is shown as it is written."""

_CONTROL_CHARACTER = re.compile(f"[{_CONTROL}]")

_VISIBLE = {"\n": "\n", "\t": "\t"}

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
RUN_ID_PATTERN = r"^r[0-9a-z]{12}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""Name of a dataset, teacher or project: lower case, digits, `.`, `_`, `-`; up to 63 characters."""

RunId = Annotated[str, Field(pattern=RUN_ID_PATTERN)]
"""The id of a run, assigned by the service."""

Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
"""A SHA-256 digest in hexadecimal."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
"""A fraction from 0 to 1."""

DEFAULT_MAX_DETECTIONS = 100
"""As in COCO's protocol and in mmdet's configs."""

LARGEST_MAX_DETECTIONS = 1000
"""As many candidates as a pyramid level keeps before NMS."""

MaxDetections = Annotated[int, Field(ge=1, le=LARGEST_MAX_DETECTIONS)]
"""The boxes with the highest scores, over all classes, that a detector reports of an image."""


def replace_control_characters(text: str) -> str:
    """The text with U+FFFD for each character that `PRINTABLE_PATTERN` refuses, except for ends of
    lines and tabs."""
    return _CONTROL_CHARACTER.sub(lambda match: _VISIBLE.get(match[0], "\ufffd"), text)


def is_printable(text: str) -> bool:
    """Whether a text matches `PRINTABLE_PATTERN`."""
    return _CONTROL_CHARACTER.search(text) is None
