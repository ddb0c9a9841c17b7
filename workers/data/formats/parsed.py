"""The content of annotation files, before it is checked against the images."""

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from configs.spec.dataset import MAX_CLASSES, ClassNames
from workers.data.problems import Problem, display_path
from workers.errors import DatasetError


@dataclass(frozen=True)
class ParsedBox:
    """A box as annotated, with finite numbers as edges."""

    location: str
    """Position in the annotation file, as in `Problem.location`."""

    label: str
    edges: tuple[float, float, float, float]
    """Left, top, width, height in pixels from the image's corner, or in parts of the image."""

    is_crowd: bool = False
    area: float | None = None
    """Area of the object in pixels; None if the annotation has none, and the box's area counts."""

    is_relative: bool = False
    """Whether the edges are parts of the image's width and height, as in YOLO."""


@dataclass(frozen=True)
class ParsedImage:
    """An image as annotated."""

    file: Path
    """The annotation file."""

    location: str
    name: str
    """Path relative to the folder of images."""

    size: tuple[int, int] | None
    """Width and height as annotated; None if there is none, and the file's size counts."""

    size_location: str

    boxes: tuple[ParsedBox, ...]
    id: int

    def scale_to(self, size: tuple[int, int]) -> "ParsedImage":
        """The image with all boxes in pixels, and with `size` if the annotation has none."""
        boxes = tuple(_scale(box, size) if box.is_relative else box for box in self.boxes)
        return replace(self, size=self.size or size, boxes=boxes)


@dataclass(frozen=True)
class ParsedSplit:
    """One split of a dataset as annotated."""

    file: Path
    """The COCO file, the list of VOC images, or the folder of annotations."""

    images_dir: Path
    images: tuple[ParsedImage, ...]
    problems: tuple[Problem, ...]
    num_listed_images: int
    num_listed_boxes: int
    notes: tuple[str, ...] = ()
    """What was read otherwise than it is written, in sentences for the report."""


def clean_label(text: str) -> str:
    """A class name without blanks around it, in Unicode's composed form."""
    return unicodedata.normalize("NFC", text.strip())


def collect_labels(*splits: ParsedSplit) -> tuple[str, ...]:
    """The class names of all boxes, sorted."""
    return tuple(
        sorted({box.label for split in splits for image in split.images for box in image.boxes})
    )


def check_classes(names: ClassNames) -> None:
    """Raise `DatasetError` for class names that no dataset can have: too many, empty, repeated."""
    if len(names) > MAX_CLASSES:
        raise DatasetError(
            f"The dataset has {len(names):,} classes, and {MAX_CLASSES:,} are possible; name those "
            "to detect with --classes."
        )
    if "" in names:
        raise DatasetError(f"Class {names.index('')}, counted from 0, has an empty name.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DatasetError(
            f"{len(repeated)} class names are those of several classes, first {repeated[0]!r}; "
            "each class needs a name of its own."
        )


def describe_missing_sizes(count: int, source: Path) -> tuple[str, ...]:
    """The note about images whose size the annotations lack, if there are any."""
    if not count:
        return ()
    return (
        f"{display_path(source)}: {count} images have no size in the annotations (0, or nothing); "
        "the size of the image file is taken.",
    )


def _scale(box: ParsedBox, size: tuple[int, int]) -> ParsedBox:
    x, y, width, height = box.edges
    edges = (x * size[0], y * size[1], width * size[0], height * size[1])
    return replace(box, edges=edges, is_relative=False)
