"""Checks parsed annotations against the image files and against each other."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from configs.spec.base import Sha256
from workers.data.formats.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.image_threads import map_images
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

_MAX_SEARCHED_FOLDERS = 50


@dataclass(frozen=True)
class ValidationOptions:
    """What is allowed that is refused by default."""

    clip: bool = False
    """Clip boxes that reach out of their image."""

    follow_links: bool = False
    """Read images through links that lead out of the folder of images."""

    allow_leak: bool = False
    """Keep training images that are in val, too, as for a check whether a model can overfit."""

    excluded: frozenset[Sha256] = frozenset()
    """Hashes of images without labels that are left out."""


@dataclass(frozen=True)
class ValidatedImage:
    """A usable image, with its usable boxes."""

    parsed: ParsedImage
    file: ImageFile
    num_dropped: int = 0
    """Boxes that cannot be used."""

    num_clippable: int = 0
    """Boxes that reach out of the image; they were clipped, or could be."""

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

    num_excluded: int = 0
    """Images that were left out because of their hash."""


@dataclass(frozen=True)
class _SplitResult:
    images: tuple[ValidatedImage, ...]
    problems: list[Problem]
    num_trimmed: int


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
    options: ValidationOptions = ValidationOptions(),
    on_image: Callable[[], None] = lambda: None,
) -> ValidatedSplits:
    """Check every image and every box, and collect all problems.

    `on_image` is called after each image.
    """
    problems = [problem for split in parsed.values() for problem in split.problems]
    results = {
        name: _validate_split(parsed[name], classes, options=options, on_image=on_image)
        for name in SPLITS
    }
    problems += [problem for result in results.values() for problem in result.problems]
    images = {name: result.images for name, result in results.items()}
    leaks = {} if options.allow_leak else _find_leaks(images)
    problems += leaks.values()
    images["train"] = tuple(image for image in images["train"] if image.parsed.id not in leaks)
    problems += [problem for name in SPLITS for problem in _check_boxes(parsed[name], images[name])]
    num_trimmed = sum(result.num_trimmed for result in results.values())
    return ValidatedSplits(images, sort_problems(problems), num_trimmed)


def validate_images(
    split: ParsedSplit,
    *,
    options: ValidationOptions = ValidationOptions(),
    on_image: Callable[[], None] = lambda: None,
) -> ValidatedSplits:
    """Check images without labels, which become `train`; a copy of an earlier one is a problem.

    `on_image` is called after each image.
    """
    result = _validate_split(split, frozenset(), options=options, on_image=on_image)
    included = [image for image in result.images if image.file.sha256 not in options.excluded]
    by_hash: dict[Sha256, ValidatedImage] = {}
    for image in included:
        by_hash.setdefault(image.file.sha256, image)
    images = tuple(by_hash.values())
    problems = [*split.problems, *result.problems, *_find_copies(included, by_hash)]
    if not images:
        message = "it has no usable image"
        file = display_path(split.file)
        problems.append(Problem(file, "whole folder", ProblemCode.EMPTY_SPLIT, message))
    return ValidatedSplits(
        {"train": images, "val": ()},
        sort_problems(problems),
        num_trimmed=0,
        num_excluded=len(result.images) - len(included),
    )


def _validate_split(
    split: ParsedSplit,
    classes: frozenset[str],
    *,
    options: ValidationOptions,
    on_image: Callable[[], None],
) -> _SplitResult:
    validate = partial(_validate_image, split, classes=classes, options=options)
    results = list(map_images(validate, split.images, on_image=on_image))
    problems = _join_missing(split, [problem for result in results for problem in result.problems])
    problems += _find_duplicates(split)
    return _SplitResult(
        _drop_duplicates(result.image for result in results),
        problems,
        sum(result.num_trimmed for result in results),
    )


def _validate_image(
    split: ParsedSplit,
    image: ParsedImage,
    *,
    classes: frozenset[str],
    options: ValidationOptions,
) -> _ImageResult:
    file = _open_image(split, image, follow_links=options.follow_links)
    if isinstance(file, Problem) and image.size is None:
        return _ImageResult(None, (file,))
    size = image.size if isinstance(file, Problem) else file.size
    assert size is not None
    problems: list[Problem] = []
    boxes: list[ParsedBox] = []
    num_trimmed = num_clippable = 0
    for box in image.scale_to(size).boxes:
        usable, is_outside = _clip(box, size), _excess(box, size) > ROUNDING_PX
        faults = list(_check_box(box, size, classes))
        if [code for code, _ in faults] == [ProblemCode.BOX_OUTSIDE] and not _is_degenerate(usable):
            num_clippable += 1
            faults = [] if options.clip else faults
        problems += [_image_problem(image, box.location, *fault) for fault in faults]
        if not faults:
            num_trimmed += usable is not box and not is_outside
            boxes.append(usable)
    if isinstance(file, Problem):
        return _ImageResult(None, (*problems, file))
    validated = ValidatedImage(
        replace(image, boxes=tuple(boxes)),
        file,
        num_dropped=len(image.boxes) - len(boxes),
        num_clippable=num_clippable,
    )
    return _ImageResult(validated, tuple(problems), num_trimmed)


def _check_box(
    box: ParsedBox, size: tuple[int, int], classes: frozenset[str]
) -> Iterator[tuple[ProblemCode, str]]:
    x, y, width, height = box.edges
    description = f"{box.label} with left {x:g}, top {y:g}, width {width:g}, height {height:g}"
    if _excess(box, size) > ROUNDING_PX:
        yield ProblemCode.BOX_OUTSIDE, f"{description} in an image of {_format_size(size)}"
        is_degenerate = _is_degenerate(box)
    else:
        is_degenerate = _is_degenerate(box) or _is_degenerate(_clip(box, size))
    if is_degenerate:
        yield ProblemCode.DEGENERATE_BOX, description
    if box.label not in classes:
        yield ProblemCode.UNKNOWN_CLASS, f"{box.label!r} is not among the classes"


def _excess(box: ParsedBox, size: tuple[int, int]) -> float:
    """How far the box reaches out of its image, in pixels; not above 0 if it lies inside."""
    x, y, width, height = box.edges
    return max(-x, -y, x + width - size[0], y + height - size[1])


def _is_degenerate(box: ParsedBox) -> bool:
    _, _, width, height = box.edges
    return width < MIN_SIDE_PX or height < MIN_SIDE_PX


def _clip(box: ParsedBox, size: tuple[int, int]) -> ParsedBox:
    """The part of the box inside of its image; the box itself if that is all of it."""
    x, y, width, height = box.edges
    if _excess(box, size) <= 0:
        return box
    x_max, y_max = min(x + width, size[0]), min(y + height, size[1])
    x_min, y_min = max(x, 0.0), max(y, 0.0)
    edges = (x_min, y_min, x_max - x_min, y_max - y_min)
    is_rounding = _excess(box, size) <= ROUNDING_PX
    if box.area is None or is_rounding:
        return replace(box, edges=edges)
    return replace(box, edges=edges, area=min(box.area, edges[2] * edges[3]))


def _open_image(
    split: ParsedSplit, image: ParsedImage, *, follow_links: bool
) -> ImageFile | Problem:
    problem = partial(_image_problem, image, image.location)
    try:
        path = resolve_image_path(split.images_dir, image.name, follow_links=follow_links)
        if not path.is_file():
            return problem(
                ProblemCode.MISSING_IMAGE,
                f"{display_path(split.images_dir / image.name)} does not exist",
            )
        file = inspect_image(path)
    except UnsafePath as error:
        return problem(ProblemCode.UNSAFE_PATH, str(error))
    except (InvalidImage, OSError) as error:
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


def _join_missing(split: ParsedSplit, problems: list[Problem]) -> list[Problem]:
    """One problem instead of one for each image, if not a single image exists."""
    other_problems = [
        problem for problem in problems if problem.code is not ProblemCode.MISSING_IMAGE
    ]
    if len(split.images) < 2 or len(problems) - len(other_problems) < len(split.images):
        return problems
    first = split.images[0].name
    message = (
        f"none of the {len(split.images):,} images is in {display_path(split.images_dir)}"
        f"{_describe_folder(split.images_dir, first)}; the first is {first}"
    )
    return [
        Problem(display_path(split.file), "whole file", ProblemCode.MISSING_IMAGE, message),
        *other_problems,
    ]


def _describe_folder(folder: Path, name: str) -> str:
    """What a wrong folder of images is, and where the image `name` is instead, if that is near."""
    if not folder.is_dir():
        return ", which is no folder"
    subfolders = islice((path for path in folder.iterdir() if path.is_dir()), _MAX_SEARCHED_FOLDERS)
    for candidate in (folder.parent, *sorted(subfolders)):
        if (candidate / name).is_file():
            return f", but {display_path(candidate)} has the first"
    if (folder / PurePosixPath(name).name).is_file():
        return f", but it has {PurePosixPath(name).name}"
    return ""


def _find_duplicates(split: ParsedSplit) -> Iterator[Problem]:
    seen: set[str] = set()
    for image in split.images:
        if _normalize_path(image.name) in seen:
            message = "the file is listed before; only the boxes listed there are used"
            yield _image_problem(image, image.location, ProblemCode.DUPLICATE_FILE_NAME, message)
        seen.add(_normalize_path(image.name))


def _find_copies(
    images: Iterable[ValidatedImage], by_hash: Mapping[Sha256, ValidatedImage]
) -> Iterator[Problem]:
    """A problem for each image whose content is that of an earlier one; `by_hash` has the first."""
    for image in images:
        original = by_hash[image.file.sha256]
        if original is not image:
            message = f"it has the content of {original.name}"
            location = image.parsed.location
            yield _image_problem(image.parsed, location, ProblemCode.COPY, message)


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


def _check_boxes(split: ParsedSplit, images: tuple[ValidatedImage, ...]) -> Iterator[Problem]:
    """A problem if there is nothing to train on, or no object that an evaluation counts."""
    boxes = [box for image in images for box in image.parsed.boxes]
    if all(box.is_crowd for box in boxes):
        message = (
            f"each of its {len(boxes):,} usable boxes is a crowd or difficult object, which is "
            "neither trained on nor evaluated"
            if boxes
            else "it has no usable image with a usable box"
        )
        yield Problem(display_path(split.file), "whole file", ProblemCode.EMPTY_SPLIT, message)


def _image_problem(image: ParsedImage, location: str, code: ProblemCode, message: str) -> Problem:
    return Problem(display_path(image.file), location, code, message, image.name)


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _normalize_path(name: str) -> str:
    """Write `a//b.jpg` and `./a/b.jpg` as `a/b.jpg`."""
    return PurePosixPath(name).as_posix()
