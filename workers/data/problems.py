"""What is wrong with a dataset that somebody brings: every problem, with its place."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Fault(StrEnum):
    """Kinds of problems."""

    MISSING_IMAGE = "missing image"
    UNREADABLE_IMAGE = "unreadable image"
    OTHER_SIZE = "image size differs from the annotation"
    PATH_ESCAPES = "path leaves the image folder"
    MALFORMED = "malformed annotation"
    BAD_BOX = "box is not four numbers"
    EMPTY_BOX = "empty box"
    OUTSIDE_BOX = "box outside of the image"
    UNKNOWN_CLASS = "unknown class"
    UNKNOWN_IMAGE = "annotation of no image"
    DUPLICATE_IMAGE = "duplicate image"
    DUPLICATE_ANNOTATION = "duplicate annotation id"
    IN_BOTH_PARTS = "image in both train and val"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, where in it (line or id), and what."""

    file: Path
    where: str
    fault: Fault
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.fault}: {self.message}"


class ImportRefused(Exception):  # noqa: N818 - a fact, not a fault
    """A dataset has problems and nobody said to drop them; nothing was written."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problems; nothing was written.")
        self.problems = tuple(problems)


def counts(problems: Sequence[Problem]) -> dict[str, int]:
    """How many problems of each kind, most frequent first."""
    return dict(Counter(str(problem.fault) for problem in problems).most_common())
