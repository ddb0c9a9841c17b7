"""Errors that distilled students share with their teachers, as a report has them."""

from typing import Annotated, Literal

from pydantic import Field

from configs.protocol.comparison import Difference
from configs.spec.base import Contract, RunId

Count = Annotated[int, Field(ge=0)]


class CopiedShare(Contract):
    """How many errors of one kind the teacher makes too, over all pairs of a comparison."""

    errors: Count
    """Errors of the distilled students."""

    copied: Count
    """Those of them that their teacher makes at the same position."""

    baseline_errors: Count
    baseline_copied: Count
    difference: Difference | None
    """Share of copied errors of the distilled students minus that of the students alone, from 0 to
    1; means over seeds. None if a student makes no such error."""


class CopiedError(Contract):
    """An error of distilled student and teacher that the student alone does not make."""

    kind: Literal["false_positive", "missed"]
    file: str
    """Path relative to the validation images' folder."""

    class_name: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in pixels of the original image: of the student's detection, or of
    the object that it misses."""

    score: float
    """Score of the distilled student's detection; for a missed object that of the student alone,
    which detects it."""

    teacher_score: float | None = None
    """Score of the teacher's false positive. None for a missed object."""


class CopiedErrors(Contract):
    """The errors of one or more pairs that their teacher makes too, at IoU 0.5 and scores of 0.3
    or more."""

    runs: Annotated[tuple[RunId, ...], Field(min_length=1)]
    baselines: Annotated[tuple[RunId, ...], Field(min_length=1)]
    """In the order of the runs."""

    false_positives: CopiedShare
    """A copied one has an IoU of 0.5 or more with a false positive of the teacher of its class."""

    missed: CopiedShare
    """Objects without a correct detection."""

    examples: tuple[CopiedError, ...] = ()
    """Of the first pair, by kind, those with the highest scores first."""
