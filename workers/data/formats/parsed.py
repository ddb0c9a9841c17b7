"""The content of annotation files, before it is checked against the images."""

from dataclasses import dataclass
from pathlib import Path

from workers.data.problems import Problem


@dataclass(frozen=True)
class ParsedBox:
    """A box as annotated, with finite numbers as edges."""

    location: str
    """Position in the annotation file, as in `Problem.location`."""

    label: str
    edges: tuple[float, float, float, float]
    """Left, top, width, height in pixels from the image's corner."""

    is_crowd: bool = False
    area: float | None = None
    """Area of the object in pixels; None if the annotation has none, and the box's area counts."""


@dataclass(frozen=True)
class ParsedImage:
    """An image as annotated."""

    file: Path
    """The annotation file."""

    location: str
    name: str
    """Path relative to the folder of images."""

    size: tuple[int, int]
    """Width and height as annotated."""

    size_location: str

    boxes: tuple[ParsedBox, ...]
    id: int


@dataclass(frozen=True)
class ParsedSplit:
    """One split of a dataset as annotated."""

    file: Path
    """The COCO file, or the list of VOC images."""

    images_dir: Path
    images: tuple[ParsedImage, ...]
    problems: tuple[Problem, ...]
    num_listed_images: int
    num_listed_boxes: int
