"""A part of a dataset as its annotations tell it, before anything is checked against images."""

from dataclasses import dataclass
from pathlib import Path

from workers.data.problems import Problem


@dataclass(frozen=True)
class ParsedBox:
    """A box whose edges are numbers, finite ones."""

    location: str
    label: str
    edges: tuple[float, float, float, float]
    """Left, top, width, height in pixels from the image's corner."""

    is_crowd: bool = False
    area: float | None = None
    """Of the object, where the annotation tells it; of the box otherwise."""


@dataclass(frozen=True)
class ParsedImage:
    """An image that annotations name."""

    file: Path
    """Where it is annotated."""

    location: str
    name: str
    """Relative to the folder of images."""

    size: tuple[int, int]
    """Width and height as annotated."""

    size_location: str

    boxes: tuple[ParsedBox, ...]
    id: int


@dataclass(frozen=True)
class ParsedSplit:
    """One part of a dataset as it was read."""

    file: Path
    """What was read: the COCO file, or the list of VOC images."""

    images_dir: Path
    images: tuple[ParsedImage, ...]
    problems: tuple[Problem, ...]
    num_listed_images: int
    num_listed_boxes: int
