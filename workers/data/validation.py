"""Checks parsed annotations against the image files and against each other."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from os import sched_getaffinity
from pathlib import PurePosixPath

from configs.spec.base import Sha256
from workers.data.formats.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.images import (
    ImageFile,
    InvalidImage,
    UnsafePath,
    inspect_image,
    resolve_image_path,
)
from workers.data.manifest import SPLITS, SplitName
from workers.data.problems import Problem, ProblemCode, display_path, sort_problems

ROUNDING_PX = 1.0
"""A box may exceed its image by this much, due to rounding; it is trimmed."""

MIN_SIDE_PX = 1.0
"""mmdet leaves out boxes that are narrower or lower."""

_MAX_THREADS = 8


@dataclass(frozen=True)
class ValidatedImage:
    """A usable image, with its usable boxes."""

    parsed: ParsedImage
    file: ImageFile

    @property
    def name(self) -> str:
        """Normalized path relative to the folder of images."""
        return _normalize_path(self.parsed.name)


@dataclass(frozen=True)
class ValidatedSplits:
    """The usable images of both splits, and the problems of the others."""

    images: Mapping[SplitName, tuple[ValidatedImage, ...]]
    problems: tuple[Problem, ...]
    num_trimmed: int
    """Boxes that were trimmed by a pixel or less."""


@dataclass(frozen=True)
class _ImageResult:
    """The outcome of validating one image."""

    image: ValidatedImage | None
    """None if the image cannot be used."""

    problems: tuple[Problem, ...]
    num_trimmed: int = 0


def validate_splits(
    parsed: Mapping[SplitName, ParsedSplit],
    classes: frozenset[str],
    *,
    on_image: Callable[[], None] = lambda: None,
) -> ValidatedSplits:
    """Check every image and every box, and collect all problems.

    `on_image` is called after each image.
    """
    problems = [problem for split in parsed.values() for problem in split.problems]
    images: dict[SplitName, tuple[ValidatedImage, ...]] = {}
    num_trimmed = 0
    for name in SPLITS:
        results = list(_validate_images(parsed[name], classes, on_image))
        problems += [problem for result in results for problem in result.problems]
        problems += _find_duplicates(parsed[name])
        num_trimmed += sum(result.num_trimmed for result in results)
        images[name] = _drop_duplicates(result.image for result in results)
    leaks = _find_leaks(images)
    problems += leaks.values()
    images["train"] = tuple(image for image in images["train"] if image.parsed.id not in leaks)
    problems += [_empty_split(parsed[name]) for name in SPLITS if not _has_boxes(images[name])]
    return ValidatedSplits(images, sort_problems(problems), num_trimmed)


def _validate_images(
    split: ParsedSplit, classes: frozenset[str], on_image: Callable[[], None]
) -> Iterator[_ImageResult]:
    validate = partial(_validate_image, split, classes=classes)
    # Reading and decoding release the interpreter's lock.
    with ThreadPoolExecutor(min(_MAX_THREADS, len(sched_getaffinity(0)))) as threads:
        for result in threads.map(validate, split.images):
            on_image()
            yield result


def _validate_image(
    split: ParsedSplit, image: ParsedImage, *, classes: frozenset[str]
) -> _ImageResult:
    file = _open_image(split, image)
    if isinstance(file, Problem) and image.size is None:
        return _ImageResult(None, (file,))
    size = image.size if isinstance(file, Problem) else file.size
    assert size is not None
    problems: list[Problem] = []
    boxes: list[ParsedBox] = []
    num_trimmed = 0
    for box in image.scale_to(size).boxes:
        box_problems = [
            _image_problem(image, box.location, code, message)
            for code, message in _check_box(box, size, classes)
        ]
        problems += box_problems
        if not box_problems:
            trimmed = _trim(box, size)
            num_trimmed += trimmed is not box
            boxes.append(trimmed)
    if isinstance(file, Problem):
        return _ImageResult(None, (*problems, file))
    validated = ValidatedImage(replace(image, boxes=tuple(boxes)), file)
    return _ImageResult(validated, tuple(problems), num_trimmed)


def _check_box(
    box: ParsedBox, size: tuple[int, int], classes: frozenset[str]
) -> Iterator[tuple[ProblemCode, str]]:
    x, y, width, height = box.edges
    description = f"{box.label} with left {x:g}, top {y:g}, width {width:g}, height {height:g}"
    excess = max(-x, -y, x + width - size[0], y + height - size[1])
    if excess > ROUNDING_PX:
        yield ProblemCode.BOX_OUTSIDE, f"{description} in an image of {_format_size(size)}"
    elif width >= MIN_SIDE_PX and height >= MIN_SIDE_PX:
        _, _, width, height = _trim(box, size).edges
    if width < MIN_SIDE_PX or height < MIN_SIDE_PX:
        yield ProblemCode.DEGENERATE_BOX, description
    if box.label not in classes:
        yield ProblemCode.UNKNOWN_CLASS, f"{box.label!r} is not among the classes"


def _trim(box: ParsedBox, size: tuple[int, int]) -> ParsedBox:
    x, y, width, height = box.edges
    if x >= 0 and y >= 0 and x + width <= size[0] and y + height <= size[1]:
        return box
    x_max, y_max = min(x + width, size[0]), min(y + height, size[1])
    x, y = max(x, 0.0), max(y, 0.0)
    return replace(box, edges=(x, y, x_max - x, y_max - y))


def _open_image(split: ParsedSplit, image: ParsedImage) -> ImageFile | Problem:
    problem = partial(_image_problem, image, image.location)
    try:
        path = resolve_image_path(split.images_dir, image.name)
        if not path.is_file():
            return problem(
                ProblemCode.MISSING_IMAGE,
                f"{display_path(split.images_dir / image.name)} does not exist",
            )
        file = inspect_image(path)
    except UnsafePath as error:
        return problem(ProblemCode.UNSAFE_PATH, str(error))
    except InvalidImage as error:
        return problem(
            ProblemCode.UNREADABLE_IMAGE, f"{display_path(split.images_dir / image.name)}: {error}"
        )
    if image.size is not None and file.size != image.size:
        return _image_problem(
            image,
            image.size_location,
            ProblemCode.SIZE_MISMATCH,
            f"annotated as {_format_size(image.size)}, but it is {_format_size(file.size)}",
        )
    return file


def _find_duplicates(split: ParsedSplit) -> Iterator[Problem]:
    seen: set[str] = set()
    for image in split.images:
        if _normalize_path(image.name) in seen:
            message = "the file is listed before; only the boxes listed there are used"
            yield _image_problem(image, image.location, ProblemCode.DUPLICATE_FILE_NAME, message)
        seen.add(_normalize_path(image.name))


def _drop_duplicates(images: Iterator[ValidatedImage | None]) -> tuple[ValidatedImage, ...]:
    by_name: dict[str, ValidatedImage] = {}
    for image in images:
        if image is not None:
            by_name.setdefault(image.name, image)
    return tuple(by_name.values())


def _find_leaks(images: Mapping[SplitName, tuple[ValidatedImage, ...]]) -> dict[int, Problem]:
    """Find images of train whose content is in val too, by id; they would inflate the metrics."""
    in_val: dict[Sha256, ValidatedImage] = {image.file.sha256: image for image in images["val"]}
    return {
        image.parsed.id: _image_problem(
            image.parsed,
            image.parsed.location,
            ProblemCode.LEAK,
            f"it is {duplicate.name} of val too, at {duplicate.parsed.location} of "
            f"{display_path(duplicate.parsed.file)}",
        )
        for image in images["train"]
        if (duplicate := in_val.get(image.file.sha256)) is not None
    }


def _has_boxes(images: tuple[ValidatedImage, ...]) -> bool:
    return any(image.parsed.boxes for image in images)


def _empty_split(split: ParsedSplit) -> Problem:
    message = "it has no usable image with a usable box"
    return Problem(display_path(split.file), "whole file", ProblemCode.EMPTY_SPLIT, message)


def _image_problem(image: ParsedImage, location: str, code: ProblemCode, message: str) -> Problem:
    return Problem(display_path(image.file), location, code, message, image.name)


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _normalize_path(name: str) -> str:
    """Write `a//b.jpg` and `./a/b.jpg` as `a/b.jpg`."""
    return PurePosixPath(name).as_posix()
