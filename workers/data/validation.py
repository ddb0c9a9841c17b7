"""Do the annotations agree with the images, and with each other?"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from os import sched_getaffinity
from pathlib import PurePosixPath

from configs.spec.base import Sha256
from workers.data.images import (
    ImageDecodeError,
    ImageFile,
    UnsafePath,
    inspect_image,
    resolve_image_path,
)
from workers.data.manifest import SPLITS, SplitName
from workers.data.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.problems import Problem, ProblemCode, display_path, sort_problems

ROUNDING_PX = 1.0
"""A box may reach so far out of its image, as rounding does; it is trimmed."""

MIN_SIDE_PX = 1.0
"""mmdet leaves out what is narrower or lower."""

_MOST_THREADS = 8


@dataclass(frozen=True)
class ValidatedImage:
    """An image that can be used, with its usable boxes."""

    parsed: ParsedImage
    file: ImageFile

    @property
    def name(self) -> str:
        """Relative to the folder of images, written in one way only."""
        return _plain(self.parsed.name)


@dataclass(frozen=True)
class ValidatedSplits:
    """What is good in both parts, and what is wrong."""

    images: Mapping[SplitName, tuple[ValidatedImage, ...]]
    problems: tuple[Problem, ...]
    num_trimmed: int
    """Boxes that were trimmed by a pixel or less."""


@dataclass(frozen=True)
class _Verdict:
    """One image: what of it is good, and what is wrong."""

    image: ValidatedImage | None
    problems: tuple[Problem, ...]
    num_trimmed: int = 0


def validate_splits(
    drafts: Mapping[SplitName, ParsedSplit],
    classes: frozenset[str],
    *,
    on_image: Callable[[], None] = lambda: None,
) -> ValidatedSplits:
    """Look at every image and every box; no problem hides another."""
    problems = [problem for draft in drafts.values() for problem in draft.problems]
    images: dict[SplitName, tuple[ValidatedImage, ...]] = {}
    num_trimmed = 0
    for part in SPLITS:
        verdicts = list(_verdicts(drafts[part], classes, on_image))
        problems += [problem for verdict in verdicts for problem in verdict.problems]
        problems += _listed_twice(drafts[part])
        num_trimmed += sum(verdict.num_trimmed for verdict in verdicts)
        images[part] = _unique(verdict.image for verdict in verdicts)
    leaks = _leaks(images)
    problems += leaks.values()
    images["train"] = tuple(image for image in images["train"] if image.parsed.id not in leaks)
    problems += [_empty(drafts[part]) for part in SPLITS if not _has_boxes(images[part])]
    return ValidatedSplits(images, sort_problems(problems), num_trimmed)


def _verdicts(
    draft: ParsedSplit, classes: frozenset[str], on_image: Callable[[], None]
) -> Iterator[_Verdict]:
    judge = partial(_judged, draft, classes=classes)
    # Reading and decoding let go of the interpreter's lock.
    with ThreadPoolExecutor(min(_MOST_THREADS, len(sched_getaffinity(0)))) as threads:
        for verdict in threads.map(judge, draft.images):
            on_image()
            yield verdict


def _judged(draft: ParsedSplit, image: ParsedImage, *, classes: frozenset[str]) -> _Verdict:
    problems: list[Problem] = []
    kept: list[ParsedBox] = []
    num_trimmed = 0
    for box in image.boxes:
        found = [_about(image, box.location, *fault) for fault in _faults(box, image.size, classes)]
        problems += found
        if not found:
            trimmed = _trimmed(box, image.size)
            num_trimmed += trimmed is not box
            kept.append(trimmed)
    file = _file_or_problem(draft, image)
    if isinstance(file, Problem):
        return _Verdict(None, (*problems, file))
    good = ValidatedImage(replace(image, boxes=tuple(kept)), file)
    return _Verdict(good, tuple(problems), num_trimmed)


def _faults(
    box: ParsedBox, size: tuple[int, int], classes: frozenset[str]
) -> Iterator[tuple[ProblemCode, str]]:
    left, top, width, height = box.edges
    described = f"{box.label} with left {left:g}, top {top:g}, width {width:g}, height {height:g}"
    beyond = max(-left, -top, left + width - size[0], top + height - size[1])
    if beyond > ROUNDING_PX:
        yield ProblemCode.BOX_OUTSIDE, f"{described} in an image of {_by(size)}"
    elif width >= MIN_SIDE_PX and height >= MIN_SIDE_PX:
        _, _, width, height = _trimmed(box, size).edges
    if width < MIN_SIDE_PX or height < MIN_SIDE_PX:
        yield ProblemCode.DEGENERATE_BOX, described
    if box.label not in classes:
        yield ProblemCode.UNKNOWN_CLASS, f"{box.label!r} is not among the classes"


def _trimmed(box: ParsedBox, size: tuple[int, int]) -> ParsedBox:
    left, top, width, height = box.edges
    if left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]:
        return box
    right, bottom = min(left + width, size[0]), min(top + height, size[1])
    left, top = max(left, 0.0), max(top, 0.0)
    return replace(box, edges=(left, top, right - left, bottom - top))


def _file_or_problem(draft: ParsedSplit, image: ParsedImage) -> ImageFile | Problem:
    problem = partial(_about, image, image.location)
    try:
        path = resolve_image_path(draft.images_dir, image.name)
        if not path.is_file():
            return problem(
                ProblemCode.MISSING_IMAGE,
                f"{display_path(draft.images_dir / image.name)} is not there",
            )
        file = inspect_image(path)
    except UnsafePath as error:
        return problem(ProblemCode.UNSAFE_PATH, str(error))
    except ImageDecodeError as error:
        return problem(
            ProblemCode.UNREADABLE_IMAGE, f"{display_path(draft.images_dir / image.name)}: {error}"
        )
    if file.size != image.size:
        return _about(
            image,
            image.size_location,
            ProblemCode.SIZE_MISMATCH,
            f"annotated as {_by(image.size)}, but it is {_by(file.size)}",
        )
    return file


def _listed_twice(draft: ParsedSplit) -> Iterator[Problem]:
    seen: set[str] = set()
    for image in draft.images:
        if _plain(image.name) in seen:
            message = "the file is listed before; its boxes there count"
            yield _about(image, image.location, ProblemCode.DUPLICATE_FILE_NAME, message)
        seen.add(_plain(image.name))


def _unique(images: Iterator[ValidatedImage | None]) -> tuple[ValidatedImage, ...]:
    by_name: dict[str, ValidatedImage] = {}
    for image in images:
        if image is not None:
            by_name.setdefault(image.name, image)
    return tuple(by_name.values())


def _leaks(images: Mapping[SplitName, tuple[ValidatedImage, ...]]) -> dict[int, Problem]:
    """By id the images of train whose content is in val: there they would flatter the scores."""
    in_val: dict[Sha256, ValidatedImage] = {image.file.sha256: image for image in images["val"]}
    return {
        image.parsed.id: _about(
            image.parsed,
            image.parsed.location,
            ProblemCode.LEAK,
            f"it is {twin.name} of val too, at {twin.parsed.location} of {display_path(twin.parsed.file)}",
        )
        for image in images["train"]
        if (twin := in_val.get(image.file.sha256)) is not None
    }


def _has_boxes(images: tuple[ValidatedImage, ...]) -> bool:
    return any(image.parsed.boxes for image in images)


def _empty(draft: ParsedSplit) -> Problem:
    message = "no usable image with a usable box is left"
    return Problem(display_path(draft.file), "whole file", ProblemCode.EMPTY_SPLIT, message)


def _about(image: ParsedImage, where: str, code: ProblemCode, message: str) -> Problem:
    return Problem(display_path(image.file), where, code, message, image.name)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _plain(name: str) -> str:
    """`a//b.jpg` and `./a/b.jpg` are `a/b.jpg`."""
    return PurePosixPath(name).as_posix()
