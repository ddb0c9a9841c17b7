"""The problems of a dataset that is imported, each with its location."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class ProblemCode(StrEnum):
    """Kinds of problems; the values appear in the import's report."""

    MISSING_FILE = "missing_file"
    MALFORMED_FILE = "malformed_file"
    MISSING_FIELD = "missing_field"
    BAD_VALUE = "bad_value"
    UNSAFE_PATH = "unsafe_path"
    MISSING_IMAGE = "missing_image"
    UNREADABLE_IMAGE = "unreadable_image"
    SIZE_MISMATCH = "size_mismatch"
    DUPLICATE_IMAGE_ID = "duplicate_image_id"
    DUPLICATE_FILE_NAME = "duplicate_file_name"
    DUPLICATE_ANNOTATION_ID = "duplicate_annotation_id"
    DUPLICATE_CLASS = "duplicate_class"
    ORPHAN_ANNOTATION = "orphan_annotation"
    UNKNOWN_CLASS = "unknown_class"
    BAD_NUMBER = "bad_number"
    DEGENERATE_BOX = "degenerate_box"
    BOX_OUTSIDE = "box_outside"
    LEAK = "leak"
    COPY = "copy"
    EMPTY_SPLIT = "empty_split"


_DESCRIPTIONS = {
    ProblemCode.MISSING_FILE: "an annotation file or a list of images that does not exist",
    ProblemCode.MALFORMED_FILE: "not JSON or XML of the expected shape",
    ProblemCode.MISSING_FIELD: "a required field that is missing",
    ProblemCode.BAD_VALUE: "a value of another type or range than expected",
    ProblemCode.UNSAFE_PATH: "a path that leads out of its folder, or that no file can have",
    ProblemCode.MISSING_IMAGE: "an image that does not exist",
    ProblemCode.UNREADABLE_IMAGE: "an image that the trainer cannot read",
    ProblemCode.SIZE_MISMATCH: "an image of another size than annotated",
    ProblemCode.DUPLICATE_IMAGE_ID: "two images with one id",
    ProblemCode.DUPLICATE_FILE_NAME: "a file that is listed twice",
    ProblemCode.DUPLICATE_ANNOTATION_ID: "two annotations with one id",
    ProblemCode.DUPLICATE_CLASS: "two classes with one id or one name",
    ProblemCode.ORPHAN_ANNOTATION: "an annotation of no listed image",
    ProblemCode.UNKNOWN_CLASS: "a box of a class that is not in the list",
    ProblemCode.BAD_NUMBER: "a box whose edges are not four finite numbers",
    ProblemCode.DEGENERATE_BOX: "a box narrower or lower than 1 pixel",
    ProblemCode.BOX_OUTSIDE: "a box that reaches out of its image",
    ProblemCode.LEAK: "an image in both train and val",
    ProblemCode.COPY: "an image with the content of an earlier one",
    ProblemCode.EMPTY_SPLIT: "train or val without any usable box that counts",
}


@dataclass(frozen=True)
class Problem:
    """One problem of one annotation file or image."""

    file: str
    location: str
    """`line 12` of an XML file or a list, `image 7` or `annotation 9` of a JSON file."""

    code: ProblemCode
    message: str
    image: str | None = None
    """File name of the affected image; None if the problem concerns no single image."""

    def __post_init__(self) -> None:
        for name in ("file", "location", "message", "image"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, make_printable(value))

    def __str__(self) -> str:
        image = "" if self.image is None or self.image in self.message else f" ({self.image})"
        return f"{self.file}: {self.location}: {self.code}: {self.message}{image}"


def describe_code(code: ProblemCode) -> str:
    """Describe a kind of problem in plain words."""
    return _DESCRIPTIONS[code]


def sort_problems(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort by file and location, without duplicates: train and val may share a file."""
    return tuple(sorted(dict.fromkeys(problems), key=_sort_key))


def make_printable(text: str) -> str:
    """Escape what a terminal or UTF-8 cannot take: control characters, halves of surrogates."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def display_path(path: Path) -> str:
    """A path as messages show it, with forward slashes."""
    return path.as_posix()


def _sort_key(problem: Problem) -> tuple[str, list[tuple[int, str]]]:
    """Compares numbers as numbers: `line 9` comes before `line 10`."""
    tokens = re.findall(r"\d+|\D+", problem.location)
    return problem.file, [
        (int(token), "") if token.isdecimal() else (-1, token) for token in tokens
    ]
