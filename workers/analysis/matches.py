"""Which detections are right, image by image: what every later question of a report is asked of."""

import contextlib
import io
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from configs.protocol.names import RunFile
from workers.checkpoints.files import write_atomically
from workers.evaluation.coco import MAX_DETECTIONS, CocoMetrics, Detections

AREAS = ("all", "s", "m", "l")
"""COCO's ranges of area: any, below 32^2 pixels, up to 96^2, above."""

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Thresholds from which a place counts as right."""

_AREA_RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
_NO_OBJECT = -1

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Matches:
    """One model's detections on one list of images, beside the truth.

    Legend: D detections, G true objects, I images, C classes, A areas (`AREAS`), T thresholds
    (`IOUS`). Detections are sorted by class, then by score with the best first; equal scores are
    in COCO's order.
    """

    class_names: tuple[str, ...]
    files: tuple[str, ...]
    """Of the images, relative to their folder."""

    image_D: Array
    class_D: Array
    score_D: Array
    box_D4: Array
    """Left, top, right, bottom, in pixels of the original image."""

    right_DAT: Array
    """It has found an object of that area, which no better one has."""

    ignored_DAT: Array
    """It counts as nothing: it lies on a crowd, or its object or itself is of another area."""

    object_D: Array
    """The object that it has found at IoU 0.50, of any area; -1: none."""

    image_G: Array
    class_G: Array
    box_G4: Array
    area_G: Array
    """In pixels, as annotated."""

    crowd_G: Array
    """It stands for many objects at one place, and is not to be found."""

    objects_ICA: Array
    """How many there are to be found."""


def match_detections(detections: list[Detections], dataset: Any) -> Matches:
    """What COCO's judge says of one list of detections per image of an mmdet CocoDataset.

    An image's 100 best of each class count, as in the project's mAP; detectors here have no more
    than 100 an image, so the parts of mAP, where COCO lets 1000 count, are the same as well.
    """
    truth = _truth_of(dataset)
    predictions = dataset._det2json(detections)
    found = _found(predictions, dataset) if predictions else _nothing()
    return Matches(
        class_names=tuple(dataset.CLASSES),
        files=tuple(dataset.coco.imgs[image]["file_name"] for image in dataset.img_ids),
        **found,
        **truth,
        objects_ICA=_objects(truth, images=len(dataset.img_ids), classes=len(dataset.CLASSES)),
    )


def write_matches(
    run_dir: Path, dataset: Any, *, student: CocoMetrics, teacher: CocoMetrics | None = None
) -> None:
    """Leave in the run's folder which detections are right, for reports to come."""
    save_matches(match_detections(student.detections, dataset), run_dir / RunFile.MATCHES)
    if teacher is not None:
        save_matches(
            match_detections(teacher.detections, dataset), run_dir / RunFile.TEACHER_MATCHES
        )


def save_matches(matches: Matches, path: Path) -> None:
    """Write arrays, compressed, so that at every moment `path` is the old file or the new one."""
    arrays = {field.name: np.asarray(getattr(matches, field.name)) for field in fields(Matches)}
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomically(path, content.getvalue())


def load_matches(path: Path) -> Matches:
    """What `save_matches` has written; `ValueError` if the file is another or a damaged one."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            values = {field.name: arrays[field.name] for field in fields(Matches)}
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError) as error:
        raise ValueError(f"{path} does not hold a run's matches; evaluate it again.") from error
    class_names, files = (tuple(map(str, values.pop(name))) for name in ("class_names", "files"))
    return Matches(class_names=class_names, files=files, **values)


def check_same_images(one: Matches, other: Matches) -> None:
    """`ValueError` if two models were not measured on the same images and objects."""
    same = one.files == other.files and one.class_names == other.class_names
    if not (same and np.array_equal(one.box_G4, other.box_G4)):
        raise ValueError(
            f"Two models can only be compared on the same images, classes and objects; one was "
            f"measured on {len(one.files)} images with {len(one.box_G4)} objects, the other on "
            f"{len(other.files)} with {len(other.box_G4)}."
        )


def _truth_of(dataset: Any) -> dict[str, Array]:
    """The true objects by image, in the order of their ids' list."""
    images, classes = _places(dataset.img_ids), _places(dataset.cat_ids)
    objects = _objects_of(dataset)
    boxes_N4 = np.array([item["bbox"] for item in objects], dtype=np.float64).reshape(-1, 4)
    boxes_N4[:, 2:] += boxes_N4[:, :2]
    return {
        "image_G": _ints(images[item["image_id"]] for item in objects),
        "class_G": _ints(classes[item["category_id"]] for item in objects),
        "box_G4": boxes_N4.astype(np.float32),
        "area_G": np.array([item["area"] for item in objects], dtype=np.float64),
        "crowd_G": np.array([bool(item.get("iscrowd")) for item in objects], dtype=bool),
    }


def _objects_of(dataset: Any) -> list[Any]:
    coco = dataset.coco
    ids = coco.getAnnIds(imgIds=dataset.img_ids, catIds=dataset.cat_ids)
    return [coco.anns[identifier] for identifier in ids]


def _objects(truth: dict[str, Array], *, images: int, classes: int) -> Array:
    counts_ICA = np.zeros((images, classes, len(AREAS)), dtype=np.int32)
    for column, (smallest, largest) in enumerate(_AREA_RANGES):
        area_G = truth["area_G"]
        counted_G = (area_G >= smallest) & (area_G <= largest) & ~truth["crowd_G"]
        place = truth["image_G"][counted_G], truth["class_G"][counted_G]
        np.add.at(counts_ICA[:, :, column], place, 1)
    return counts_ICA


def _nothing() -> dict[str, Array]:
    flags_DAT = np.zeros((0, len(AREAS), len(IOUS)), dtype=bool)
    return {
        "image_D": _ints([]),
        "class_D": _ints([]),
        "score_D": np.zeros(0, dtype=np.float32),
        "box_D4": np.zeros((0, 4), dtype=np.float32),
        "right_DAT": flags_DAT,
        "ignored_DAT": flags_DAT,
        "object_D": _ints([]),
    }


def _found(predictions: list[Any], dataset: Any) -> dict[str, Array]:
    """The detections and what the judge says of them, in the order of `Matches`."""
    judge = _judge_of(predictions, dataset)
    groups = _groups(judge)
    rows = [judge.cocoDt.anns[identifier] for group in groups for identifier in group[0]["dtIds"]]
    images, classes = _places(dataset.img_ids), _places(dataset.cat_ids)
    class_D = _ints(classes[row["category_id"]] for row in rows)
    score_D = np.array([row["score"] for row in rows], dtype=np.float32)
    boxes_D4 = np.array([row["bbox"] for row in rows], dtype=np.float64)
    boxes_D4[:, 2:] += boxes_D4[:, :2]
    matched_DAT = _flags(groups, "dtMatches")
    ignored_DAT = _flags(groups, "dtIgnore")
    places = _places(item["id"] for item in _objects_of(dataset))
    object_D = _ints(
        places.get(int(identifier), _NO_OBJECT)
        for group in groups
        for identifier in group[0]["dtMatches"][0]
    )
    order_D = np.lexsort((-score_D, class_D))
    found = {
        "image_D": _ints(images[row["image_id"]] for row in rows),
        "class_D": class_D,
        "score_D": score_D,
        "box_D4": boxes_D4.astype(np.float32),
        "right_DAT": matched_DAT & ~ignored_DAT,
        "ignored_DAT": ignored_DAT,
        "object_D": np.where((matched_DAT & ~ignored_DAT)[:, 0, 0], object_D, _NO_OBJECT),
    }
    return {name: values[order_D] for name, values in found.items()}


def _judge_of(predictions: list[Any], dataset: Any) -> COCOeval:
    # pycocotools prints what it does; the numbers are said elsewhere.
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(dataset.coco, dataset.coco.loadRes(predictions), "bbox")
        judge.params.catIds = dataset.cat_ids
        judge.params.imgIds = dataset.img_ids
        judge.params.maxDets = [MAX_DETECTIONS[0]]
        judge.evaluate()
    return judge


def _groups(judge: COCOeval) -> list[list[Any]]:
    """For each class and image with detections, what the judge says by area; classes outside."""
    images = len(judge.params.imgIds)
    by_class = len(AREAS) * images
    return [
        [judge.evalImgs[first + area * images + image] for area in range(len(AREAS))]
        for first in range(0, len(judge.evalImgs), by_class)
        for image in range(images)
        if judge.evalImgs[first + image] is not None and judge.evalImgs[first + image]["dtIds"]
    ]


def _flags(groups: list[list[Any]], name: str) -> Array:
    """A table of the judge by detection, area and threshold."""
    return np.concatenate(
        [np.stack([of_area[name].T != 0 for of_area in group], axis=1) for group in groups]
    )


def _places(items: Any) -> dict[Any, int]:
    return {item: place for place, item in enumerate(items)}


def _ints(values: Any) -> Array:
    return np.array(list(values), dtype=np.int32)
