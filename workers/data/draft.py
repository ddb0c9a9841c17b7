"""A dataset that is being brought in: read from any format, checked, and written in ours."""

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from configs.spec import MANIFEST, ClassNames, DatasetManifest
from workers.data.manifest import Coco, Origin, write_manifest
from workers.data.problems import Fault, ImportRefused, Problem

_SMALLEST_SIDE = 1.0


@dataclass(frozen=True)
class DraftBox:
    """A box as it was found: left, top, width, height in pixels."""

    where: str
    label: str
    box: tuple[float, float, float, float]
    is_crowd: bool = False


@dataclass(frozen=True)
class DraftImage:
    """An image as it was found; `size` is width and height as the annotation says."""

    annotation_file: Path
    where: str
    file_name: str
    size: tuple[int, int] | None
    boxes: tuple[DraftBox, ...]


@dataclass
class Draft:
    """One part of a dataset before it is checked."""

    images_dir: Path
    images: list[DraftImage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Imported:
    """What became of a draft."""

    manifest: DatasetManifest
    dropped: tuple[Problem, ...]


def import_drafts(
    drafts: dict[str, Draft],
    out: Path,
    *,
    name: str,
    classes: ClassNames,
    origin: Origin,
    drop_bad: bool,
    replace: bool,
    on_image: Callable[[], None] = lambda: None,
) -> Imported:
    """Check `train` and `val` and write them to `out`; `ImportRefused` if there is a problem.

    With `drop_bad`, bad boxes and images that cannot be used are left out instead.
    """
    if (out / MANIFEST).exists() and not replace:
        raise FileExistsError(f"{out} holds a dataset already; choose another name or say --replace.")
    checked = {part: list(_checked(draft, classes, on_image)) for part, draft in drafts.items()}
    problems = [problem for draft in drafts.values() for problem in draft.problems]
    problems += _drop_shared(drafts, checked)
    if problems and not drop_bad:
        raise ImportRefused(problems)
    for part, images in checked.items():
        if not any(image.boxes for image in images):
            raise ImportRefused([*problems, _empty_part(drafts[part], part)])
    manifest = _write(drafts, checked, out, name=name, classes=classes, origin=origin)
    return Imported(manifest, tuple(problems))


def _checked(draft: Draft, classes: ClassNames, on_image: Callable[[], None]) -> Iterator[DraftImage]:
    """The usable images with their usable boxes; everything else becomes a problem of the draft."""
    names: set[str] = set()
    for image in draft.images:
        on_image()
        if image.file_name in names:
            _note(draft, image, Fault.DUPLICATE_IMAGE, f"{image.file_name} is listed twice")
            continue
        names.add(image.file_name)
        size = _size_of(draft, image)
        if size is None:
            continue
        boxes = tuple(box for box in image.boxes if _is_good(draft, image, box, size, classes))
        yield DraftImage(image.annotation_file, image.where, image.file_name, size, boxes)


def _size_of(draft: Draft, image: DraftImage) -> tuple[int, int] | None:
    path = draft.images_dir / image.file_name
    if not path.resolve().is_relative_to(draft.images_dir.resolve()):
        _note(draft, image, Fault.PATH_ESCAPES, image.file_name)
        return None
    if not path.is_file():
        _note(draft, image, Fault.MISSING_IMAGE, str(path))
        return None
    try:
        with Image.open(path) as opened:
            opened.load()
            size = opened.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        _note(draft, image, Fault.UNREADABLE_IMAGE, f"{path}: {error}")
        return None
    if image.size is not None and image.size != size:
        said = "x".join(str(side) for side in image.size)
        _note(draft, image, Fault.OTHER_SIZE, f"{image.file_name} is {size[0]}x{size[1]}, not {said}")
        return None
    return size


def _is_good(
    draft: Draft, image: DraftImage, box: DraftBox, size: tuple[int, int], classes: ClassNames
) -> bool:
    left, top, width, height = box.box
    described = f"{box.label} {[round(edge, 2) for edge in box.box]} in {image.file_name}"
    fault = None
    if not all(math.isfinite(edge) for edge in box.box):
        fault = Fault.BAD_BOX
    elif width < _SMALLEST_SIDE or height < _SMALLEST_SIDE:
        fault = Fault.EMPTY_BOX
    elif left < 0 or top < 0 or left + width > size[0] or top + height > size[1]:
        fault = Fault.OUTSIDE_BOX
    elif box.label not in classes:
        fault = Fault.UNKNOWN_CLASS
    if fault is not None:
        draft.problems.append(Problem(image.annotation_file, box.where, fault, described))
    return fault is None


def _note(draft: Draft, image: DraftImage, fault: Fault, message: str) -> None:
    draft.problems.append(Problem(image.annotation_file, image.where, fault, message))


def _drop_shared(drafts: dict[str, Draft], checked: dict[str, list[DraftImage]]) -> list[Problem]:
    """Images of val that train has too: they would make val look better than it is."""
    if drafts["train"].images_dir.resolve() != drafts["val"].images_dir.resolve():
        return []
    seen = {image.file_name for image in checked["train"]}
    shared = [image for image in checked["val"] if image.file_name in seen]
    checked["val"] = [image for image in checked["val"] if image.file_name not in seen]
    return [
        Problem(image.annotation_file, image.where, Fault.IN_BOTH_PARTS, image.file_name)
        for image in shared
    ]


def _empty_part(draft: Draft, part: str) -> Problem:
    return Problem(draft.images_dir, part, Fault.MALFORMED, f"{part} has no usable box at all")


def _write(
    drafts: dict[str, Draft],
    checked: dict[str, list[DraftImage]],
    out: Path,
    *,
    name: str,
    classes: ClassNames,
    origin: Origin,
) -> DatasetManifest:
    """Build the dataset beside its place and put it there whole."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    documents = {}
    for part, images in checked.items():
        _place_images(drafts[part].images_dir, images, unfinished / "images" / part)
        documents[part] = _document(images, classes)
    manifest = write_manifest(
        unfinished, name=name, classes=classes, documents=documents, origin=origin
    )
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)
    return manifest


def _place_images(source: Path, images: Sequence[DraftImage], target: Path) -> None:
    for image in images:
        to = target / image.file_name
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            # A hard link costs no space; across file systems there are none.
            os.link((source / image.file_name).resolve(), to)
        except OSError:
            shutil.copyfile(source / image.file_name, to)


def _document(images: Sequence[DraftImage], classes: ClassNames) -> Coco:
    listed, annotations = [], []
    for image_id, image in enumerate(images, start=1):
        assert image.size is not None
        width, height = image.size
        listed.append({"id": image_id, "file_name": image.file_name, "width": width, "height": height})
        annotations += [
            {
                "id": len(annotations) + offset,
                "image_id": image_id,
                "category_id": classes.index(box.label) + 1,
                "bbox": list(box.box),
                "area": box.box[2] * box.box[3],
                "iscrowd": int(box.is_crowd),
            }
            for offset, box in enumerate(image.boxes, start=1)
        ]
    categories = [{"id": index, "name": name} for index, name in enumerate(classes, start=1)]
    return {"images": listed, "annotations": annotations, "categories": categories}
