"""Do the annotations agree with the images, and with each other?"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from os import sched_getaffinity
from pathlib import PurePosixPath

from configs.spec.base import Sha256
from workers.data.images import ImageFile, UnreadableImage, UnsafePath, inspect_image, locate
from workers.data.manifest import PARTS, PartName
from workers.data.parsed import Draft, DraftBox, DraftImage
from workers.data.problems import Problem, ProblemCode, in_order, shown

ROUNDING_PX = 1.0
"""A box may reach so far out of its image, as rounding does; it is trimmed."""

SMALLEST_SIDE_PX = 1.0
"""mmdet leaves out what is narrower or lower."""

_MOST_THREADS = 8


@dataclass(frozen=True)
class CheckedImage:
    """An image that can be used, with its usable boxes."""

    draft: DraftImage
    file: ImageFile

    @property
    def name(self) -> str:
        """Relative to the folder of images, written in one way only."""
        return _plain(self.draft.name)


@dataclass(frozen=True)
class Checked:
    """What is good in both parts, and what is wrong."""

    images: Mapping[PartName, tuple[CheckedImage, ...]]
    problems: tuple[Problem, ...]
    num_trimmed: int
    """Boxes that were trimmed by a pixel or less."""


@dataclass(frozen=True)
class _Verdict:
    """One image: what of it is good, and what is wrong."""

    image: CheckedImage | None
    problems: tuple[Problem, ...]
    num_trimmed: int = 0


def check(
    drafts: Mapping[PartName, Draft],
    classes: frozenset[str],
    *,
    on_image: Callable[[], None] = lambda: None,
) -> Checked:
    """Look at every image and every box; no problem hides another."""
    problems = [problem for draft in drafts.values() for problem in draft.problems]
    images: dict[PartName, tuple[CheckedImage, ...]] = {}
    num_trimmed = 0
    for part in PARTS:
        verdicts = list(_verdicts(drafts[part], classes, on_image))
        problems += [problem for verdict in verdicts for problem in verdict.problems]
        problems += _listed_twice(drafts[part])
        num_trimmed += sum(verdict.num_trimmed for verdict in verdicts)
        images[part] = _unique(verdict.image for verdict in verdicts)
    leaks = _leaks(images)
    problems += leaks.values()
    images["train"] = tuple(image for image in images["train"] if image.draft.id not in leaks)
    problems += [_empty(drafts[part]) for part in PARTS if not _has_boxes(images[part])]
    return Checked(images, in_order(problems), num_trimmed)


def _verdicts(
    draft: Draft, classes: frozenset[str], on_image: Callable[[], None]
) -> Iterator[_Verdict]:
    judge = partial(_judged, draft, classes=classes)
    # Reading and decoding let go of the interpreter's lock.
    with ThreadPoolExecutor(min(_MOST_THREADS, len(sched_getaffinity(0)))) as threads:
        for verdict in threads.map(judge, draft.images):
            on_image()
            yield verdict


def _judged(draft: Draft, image: DraftImage, *, classes: frozenset[str]) -> _Verdict:
    problems: list[Problem] = []
    kept: list[DraftBox] = []
    num_trimmed = 0
    for box in image.boxes:
        found = [_about(image, box.where, *fault) for fault in _faults(box, image.size, classes)]
        problems += found
        if not found:
            trimmed = _trimmed(box, image.size)
            num_trimmed += trimmed is not box
            kept.append(trimmed)
    file = _file_or_problem(draft, image)
    if isinstance(file, Problem):
        return _Verdict(None, (*problems, file))
    good = CheckedImage(replace(image, boxes=tuple(kept)), file)
    return _Verdict(good, tuple(problems), num_trimmed)


def _faults(
    box: DraftBox, size: tuple[int, int], classes: frozenset[str]
) -> Iterator[tuple[ProblemCode, str]]:
    left, top, width, height = box.edges
    described = f"{box.label} with left {left:g}, top {top:g}, width {width:g}, height {height:g}"
    beyond = max(-left, -top, left + width - size[0], top + height - size[1])
    if beyond > ROUNDING_PX:
        yield ProblemCode.BOX_OUTSIDE, f"{described} in an image of {_by(size)}"
    elif width >= SMALLEST_SIDE_PX and height >= SMALLEST_SIDE_PX:
        _, _, width, height = _trimmed(box, size).edges
    if width < SMALLEST_SIDE_PX or height < SMALLEST_SIDE_PX:
        yield ProblemCode.DEGENERATE_BOX, described
    if box.label not in classes:
        yield ProblemCode.UNKNOWN_CLASS, f"{box.label!r} is not among the classes"


def _trimmed(box: DraftBox, size: tuple[int, int]) -> DraftBox:
    left, top, width, height = box.edges
    if left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]:
        return box
    right, bottom = min(left + width, size[0]), min(top + height, size[1])
    left, top = max(left, 0.0), max(top, 0.0)
    return replace(box, edges=(left, top, right - left, bottom - top))


def _file_or_problem(draft: Draft, image: DraftImage) -> ImageFile | Problem:
    problem = partial(_about, image, image.where)
    try:
        path = locate(draft.images_dir, image.name)
        if not path.is_file():
            return problem(
                ProblemCode.MISSING_IMAGE, f"{shown(draft.images_dir / image.name)} is not there"
            )
        file = inspect_image(path)
    except UnsafePath as error:
        return problem(ProblemCode.UNSAFE_PATH, str(error))
    except UnreadableImage as error:
        return problem(
            ProblemCode.UNREADABLE_IMAGE, f"{shown(draft.images_dir / image.name)}: {error}"
        )
    if file.size != image.size:
        return _about(
            image,
            image.size_where,
            ProblemCode.SIZE_MISMATCH,
            f"annotated as {_by(image.size)}, but it is {_by(file.size)}",
        )
    return file


def _listed_twice(draft: Draft) -> Iterator[Problem]:
    seen: set[str] = set()
    for image in draft.images:
        if _plain(image.name) in seen:
            message = "the file is listed before; its boxes there count"
            yield _about(image, image.where, ProblemCode.DUPLICATE_FILE_NAME, message)
        seen.add(_plain(image.name))


def _unique(images: Iterator[CheckedImage | None]) -> tuple[CheckedImage, ...]:
    by_name: dict[str, CheckedImage] = {}
    for image in images:
        if image is not None:
            by_name.setdefault(image.name, image)
    return tuple(by_name.values())


def _leaks(images: Mapping[PartName, tuple[CheckedImage, ...]]) -> dict[int, Problem]:
    """By id the images of train whose content is in val: there they would flatter the scores."""
    in_val: dict[Sha256, CheckedImage] = {image.file.sha256: image for image in images["val"]}
    return {
        image.draft.id: _about(
            image.draft,
            image.draft.where,
            ProblemCode.LEAK,
            f"it is {twin.name} of val too, at {twin.draft.where} of {shown(twin.draft.file)}",
        )
        for image in images["train"]
        if (twin := in_val.get(image.file.sha256)) is not None
    }


def _has_boxes(images: tuple[CheckedImage, ...]) -> bool:
    return any(image.draft.boxes for image in images)


def _empty(draft: Draft) -> Problem:
    message = "no usable image with a usable box is left"
    return Problem(shown(draft.file), "whole file", ProblemCode.EMPTY_PART, message)


def _about(image: DraftImage, where: str, code: ProblemCode, message: str) -> Problem:
    return Problem(shown(image.file), where, code, message, image.name)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _plain(name: str) -> str:
    """`a//b.jpg` and `./a/b.jpg` are `a/b.jpg`."""
    return PurePosixPath(name).as_posix()
