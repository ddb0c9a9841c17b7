"""Detections matched with the ground truth by COCO's rules: the data behind a report."""

import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from configs.atomic_files import open_atomically
from configs.protocol.names import RunFile
from configs.spec.base import DEFAULT_MAX_DETECTIONS
from workers.evaluation.coco import CocoMetrics, match_predictions
from workers.evaluation.detection import Detections

AREAS = ("all", "s", "m", "l")
"""COCO's area ranges: all, small (below 32^2 pixels), medium (up to 96^2), large."""

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds of a true positive."""

_AREA_RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
_NO_OBJECT = -1


@dataclass(frozen=True)
class Matches:
    """One model's detections on a list of images, with the ground truth.

    Shapes: D detections, G ground-truth objects, I images, C classes, A areas (`AREAS`), T IoU
    thresholds (`IOUS`). Detections are sorted by class, then by descending score; equal scores are
    in COCO's order.
    """

    class_names: tuple[str, ...]
    files: tuple[str, ...]
    """Image files, relative to their folder."""

    image_D: NDArray[Any]
    class_D: NDArray[Any]
    score_D: NDArray[Any]
    box_D4: NDArray[Any]
    """Left, top, right, bottom, in pixels of the original image."""

    right_DAT: NDArray[Any]
    """Whether it is a true positive among the objects of an area."""

    ignored_DAT: NDArray[Any]
    """Whether it is ignored: it matches a crowd, or it or its object has another area."""

    object_D: NDArray[Any]
    """Index of the object that it matches at IoU 0.50, of any area; -1 if none."""

    image_G: NDArray[Any]
    class_G: NDArray[Any]
    box_G4: NDArray[Any]
    area_G: NDArray[Any]
    """Annotated area in square pixels."""

    crowd_G: NDArray[Any]
    """Whether it is a crowd region, which need not be detected."""

    objects_ICA: NDArray[Any]
    """Number of objects that are not crowds."""


def match_detections(
    detections: list[Detections], dataset: Any, *, max_detections: int = DEFAULT_MAX_DETECTIONS
) -> Matches:
    """Match detections, one list per image of an mmdet CocoDataset, with the ground truth.

    The best `max_detections` of each class and image count, as in mAP.
    """
    truth = _read_ground_truth(dataset)
    predictions = dataset._det2json(detections)
    detections_by_field = (
        _evaluate_detections(predictions, dataset, max_detections=max_detections)
        if predictions
        else _empty_detections()
    )
    return Matches(
        class_names=tuple(dataset.CLASSES),
        files=tuple(dataset.coco.imgs[image]["file_name"] for image in dataset.img_ids),
        **detections_by_field,
        **truth,
        objects_ICA=_count_objects(
            truth, images=len(dataset.img_ids), classes=len(dataset.CLASSES)
        ),
    )


def write_matches(
    run_dir: Path, dataset: Any, *, student: CocoMetrics, teacher: CocoMetrics | None = None
) -> None:
    """Write the matches of student and teacher into the run's folder, for reports."""
    for metrics, file in ((student, RunFile.MATCHES), (teacher, RunFile.TEACHER_MATCHES)):
        if metrics is not None:
            limit = metrics.max_detections
            matches = match_detections(metrics.detections, dataset, max_detections=limit)
            save_matches(matches, run_dir / file)


def save_matches(matches: Matches, path: Path) -> None:
    """Write the arrays, compressed, and replace `path` atomically."""
    arrays = {field.name: np.asarray(getattr(matches, field.name)) for field in fields(Matches)}
    with open_atomically(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_matches(path: Path) -> Matches:
    """Read what `save_matches` wrote; `ValueError` if the file has other content or is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            values = {field.name: arrays[field.name] for field in fields(Matches)}
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError) as error:
        raise ValueError(f"{path} does not hold a run's matches; evaluate it again.") from error
    class_names, files = (tuple(map(str, values.pop(name))) for name in ("class_names", "files"))
    return Matches(class_names=class_names, files=files, **values)


def check_same_images(first: Matches, second: Matches) -> None:
    """Raise `ValueError` if two models were not measured on the same images and objects."""
    is_same = first.files == second.files and first.class_names == second.class_names
    if not (is_same and np.array_equal(first.box_G4, second.box_G4)):
        raise ValueError(
            f"Two models can only be compared on the same images, classes and objects; one was "
            f"measured on {len(first.files)} images with {len(first.box_G4)} objects, the other on "
            f"{len(second.files)} with {len(second.box_G4)}."
        )


def _read_ground_truth(dataset: Any) -> dict[str, NDArray[Any]]:
    """Ground-truth fields of `Matches`, in the order of the annotation ids."""
    images, classes = _index_by_id(dataset.img_ids), _index_by_id(dataset.cat_ids)
    objects = _read_annotations(dataset)
    boxes_N4 = np.array([item["bbox"] for item in objects], dtype=np.float64).reshape(-1, 4)
    boxes_N4[:, 2:] += boxes_N4[:, :2]
    return {
        "image_G": _int32(images[item["image_id"]] for item in objects),
        "class_G": _int32(classes[item["category_id"]] for item in objects),
        "box_G4": boxes_N4.astype(np.float32),
        "area_G": np.array([item["area"] for item in objects], dtype=np.float64),
        "crowd_G": np.array([bool(item.get("iscrowd")) for item in objects], dtype=bool),
    }


def _read_annotations(dataset: Any) -> list[Any]:
    coco = dataset.coco
    ids = coco.getAnnIds(imgIds=dataset.img_ids, catIds=dataset.cat_ids)
    return [coco.anns[identifier] for identifier in ids]


def _count_objects(truth: dict[str, NDArray[Any]], *, images: int, classes: int) -> NDArray[Any]:
    counts_ICA = np.zeros((images, classes, len(AREAS)), dtype=np.int32)
    for column, (smallest, largest) in enumerate(_AREA_RANGES):
        area_G = truth["area_G"]
        counted_G = (area_G >= smallest) & (area_G <= largest) & ~truth["crowd_G"]
        index = truth["image_G"][counted_G], truth["class_G"][counted_G]
        np.add.at(counts_ICA[:, :, column], index, 1)
    return counts_ICA


def _empty_detections() -> dict[str, NDArray[Any]]:
    flags_DAT = np.zeros((0, len(AREAS), len(IOUS)), dtype=bool)
    return {
        "image_D": _int32([]),
        "class_D": _int32([]),
        "score_D": np.zeros(0, dtype=np.float32),
        "box_D4": np.zeros((0, 4), dtype=np.float32),
        "right_DAT": flags_DAT,
        "ignored_DAT": flags_DAT,
        "object_D": _int32([]),
    }


def _evaluate_detections(
    predictions: list[Any], dataset: Any, *, max_detections: int
) -> dict[str, NDArray[Any]]:
    """Detection fields of `Matches`, in its order."""
    evaluator = match_predictions(predictions, dataset, max_detections=max_detections)
    groups = _groups(evaluator)
    rows = [
        evaluator.cocoDt.anns[identifier] for group in groups for identifier in group[0]["dtIds"]
    ]
    images, classes = _index_by_id(dataset.img_ids), _index_by_id(dataset.cat_ids)
    class_D = _int32(classes[row["category_id"]] for row in rows)
    score_D = np.array([row["score"] for row in rows], dtype=np.float32)
    boxes_D4 = np.array([row["bbox"] for row in rows], dtype=np.float64)
    boxes_D4[:, 2:] += boxes_D4[:, :2]
    matched_DAT = _flags(groups, "dtMatches")
    ignored_DAT = _flags(groups, "dtIgnore")
    object_index = _index_by_id(item["id"] for item in _read_annotations(dataset))
    object_D = _int32(
        object_index.get(int(identifier), _NO_OBJECT)
        for group in groups
        for identifier in group[0]["dtMatches"][0]
    )
    order_D = np.lexsort((-score_D, class_D))
    fields_D = {
        "image_D": _int32(images[row["image_id"]] for row in rows),
        "class_D": class_D,
        "score_D": score_D,
        "box_D4": boxes_D4.astype(np.float32),
        "right_DAT": matched_DAT & ~ignored_DAT,
        "ignored_DAT": ignored_DAT,
        "object_D": np.where((matched_DAT & ~ignored_DAT)[:, 0, 0], object_D, _NO_OBJECT),
    }
    return {name: values[order_D] for name, values in fields_D.items()}


def _groups(evaluator: COCOeval) -> list[list[Any]]:
    """COCOeval's results by area, for each class and, within it, each image with detections."""
    images = len(evaluator.params.imgIds)
    by_class = len(AREAS) * images
    return [
        [evaluator.evalImgs[first + area * images + image] for area in range(len(AREAS))]
        for first in range(0, len(evaluator.evalImgs), by_class)
        for image in range(images)
        if evaluator.evalImgs[first + image] is not None
        and evaluator.evalImgs[first + image]["dtIds"]
    ]


def _flags(groups: list[list[Any]], name: str) -> NDArray[Any]:
    """A field of COCOeval's results by detection, area and threshold, as booleans."""
    return np.concatenate(
        [np.stack([area_result[name].T != 0 for area_result in group], axis=1) for group in groups]
    )


def _index_by_id(items: Any) -> dict[Any, int]:
    return {item: index for index, item in enumerate(items)}


def _int32(values: Any) -> NDArray[Any]:
    return np.array(list(values), dtype=np.int32)
