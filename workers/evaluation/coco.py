"""Evaluates detectors by the COCO bbox protocol, as mmdet applies it."""

import contextlib
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from faster_coco_eval import COCOeval_faster
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader

from configs.spec.base import DEFAULT_MAX_DETECTIONS
from workers import distributed
from workers.data.batches import prefetch_to_device
from workers.data.loaders import unwrap_dataset
from workers.errors import DatasetError
from workers.evaluation.detection import Detections, build_batch_detection
from workers.evaluation.timing import Throughput

EvaluatorT = TypeVar("EvaluatorT", COCOeval, COCOeval_faster)

_RECALL_LIMITS = (1, 10, 100)
"""Detections of an image and class that `bbox_AR_1`, `_10` and `_100` count."""

_AP_METRICS = (
    "bbox_mAP",
    "bbox_mAP_50",
    "bbox_mAP_75",
    "bbox_mAP_s",
    "bbox_mAP_m",
    "bbox_mAP_l",
)
_AR_METRICS = (
    "bbox_AR_1",
    "bbox_AR_10",
    "bbox_AR_100",
    "bbox_AR_s",
    "bbox_AR_m",
    "bbox_AR_l",
)
"""With `_AP_METRICS`, the order of `COCOeval.stats`."""

_LARGEST_AREA = 1e10
_AREAS = {"_s": (0.0, 32.0**2), "_m": (32.0**2, 96.0**2), "_l": (96.0**2, _LARGEST_AREA)}
"""COCO's area ranges in pixels, both ends included, by the ends of metric names."""

_IOU_50, _IOU_75 = 0, 5
"""Indices of the IoU thresholds 0.50 and 0.75 among 0.50, 0.55, ..., 0.95."""

_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class PrecisionCurve:
    """Precision at 101 recall values from 0 to 1; NaN for a class without objects."""

    at_50: NDArray[Any]
    at_75: NDArray[Any]
    mean: NDArray[Any]
    """Averaged over the IoU thresholds 0.50 to 0.95."""


@dataclass(frozen=True)
class CocoMetrics:
    """What COCO's protocol says, from 0 to 1. Its -1 for objects that do not exist is no value."""

    by_metric: dict[str, float]
    """Average precision with `max_detections` per image; keys are `bbox_mAP`, `bbox_mAP_50`,
    `_75`, and `_s`, `_m` and `_l` as far as there are objects of that size."""

    ap_by_class: dict[str, float | None]
    """None for a class without objects."""

    detections: list[Detections]
    """Detections of each image; empty in processes other than the main one."""

    recall_by_metric: dict[str, float]
    """Average recall; keys are `bbox_AR_1`, `_10` and `_100`, and `_s`, `_m` and `_l` with
    `max_detections` per image as far as there are objects of that size."""

    recall_by_class: dict[str, float | None]
    """Recall with 100 detections per image, averaged over the IoU thresholds 0.50 to 0.95. None for
    a class without objects."""

    curves: dict[str, PrecisionCurve]
    """Curves by class name."""

    overall: PrecisionCurve
    """Mean over the classes that have objects."""

    max_detections: int = DEFAULT_MAX_DETECTIONS

    @property
    def mean_ap(self) -> float:
        """AP averaged over the IoU thresholds 0.50 to 0.95."""
        return self.by_metric["bbox_mAP"]


def evaluate(
    detector: Any,
    loader: DataLoader[Any],
    *,
    device: torch.device,
    max_detections: int,
    on_batch: Callable[[], None] = lambda: None,
    throughput: Throughput | None = None,
) -> CocoMetrics:
    """Evaluate an mmdet model on the images of `loader`, collected from all processes.

    AP counts at most `max_detections` per image. `throughput` records the time of each batch.
    """
    was_training = detector.training
    detector.eval()
    detect = build_batch_detection(detector)
    if throughput is not None:
        detect = throughput.measure(detect)
    local_detections: list[Detections] = []
    with torch.inference_mode():
        for (batch,) in prefetch_to_device(([batch] for batch in loader), device):
            local_detections += detect(batch)
            on_batch()
    detector.train(was_training)
    by_rank = distributed.gather_object(local_detections)
    metrics = (
        None
        if by_rank is None
        else compute_metrics(
            merge_ranks(by_rank), unwrap_dataset(loader), max_detections=max_detections
        )
    )
    return _share_metrics(metrics)


def _share_metrics(metrics: CocoMetrics | None) -> CocoMetrics:
    """Send the metrics of the main process to all; only the main process keeps detections."""
    without_detections = None if metrics is None else replace(metrics, detections=[])
    shared: CocoMetrics = distributed.broadcast_object(without_detections)
    return metrics or shared


def merge_ranks(by_rank: list[list[Detections]]) -> list[Detections]:
    """Restore the order of images: rank r of n has evaluated the images r, r + n, r + 2n, ..."""
    merged = itertools.chain.from_iterable(itertools.zip_longest(*by_rank))
    return [detections for detections in merged if detections is not None]


def compute_metrics(
    detections: list[Detections], dataset: Any, *, max_detections: int = DEFAULT_MAX_DETECTIONS
) -> CocoMetrics:
    """Compute COCO's metrics of detections, one entry for each image of an mmdet CocoDataset.

    AP counts the best `max_detections` of each image and class; a detector reports no more in all.
    Raises `DatasetError` if no image has an object that counts, since mAP is not defined then.
    """
    objects = list_objects(dataset)
    predictions = dataset._det2json(detections)
    if not predictions:
        return replace(_zero_metrics(detections, dataset, objects), max_detections=max_detections)
    coco_eval = _match(COCOeval_faster, predictions, dataset, max_detections=max_detections)
    precision = np.where(coco_eval.eval["precision"] < 0, np.nan, coco_eval.eval["precision"])
    curves = {
        name: _build_curve(precision[:, :, column, 0, -1])
        for column, name in enumerate(dataset.CLASSES)
    }
    return CocoMetrics(
        by_metric=_select_existing(_AP_METRICS, _summarize_precision(coco_eval.eval["precision"])),
        ap_by_class=_compute_ap_by_class(coco_eval, dataset),
        detections=detections,
        recall_by_metric=_select_existing(_AR_METRICS, _summarize_recall(coco_eval.eval["recall"])),
        recall_by_class=_compute_recall_by_class(coco_eval, dataset),
        curves=curves,
        overall=_average_curves(list(curves.values())),
        max_detections=max_detections,
    )


def build_curves_document(metrics: CocoMetrics) -> dict[str, Any]:
    """The curves as a JSON document; null for a class without objects."""
    return {
        "recall": [round(float(recall), 2) for recall in _RECALLS],
        "all classes": _curve_entries(metrics.overall),
        "by_class": {name: _curve_entries(curve) for name, curve in metrics.curves.items()},
    }


def match_predictions(predictions: list[Any], dataset: Any, *, max_detections: int) -> COCOeval:
    """Match predictions in COCO's format, at least one, with the objects of an mmdet dataset.

    The last limit of `COCOeval.params.maxDets` is `max_detections`, or 100 if that is less: then
    the detections of an image are fewer than the limit.
    """
    return _match(COCOeval, predictions, dataset, max_detections=max_detections)


def _match(
    evaluator: type[EvaluatorT], predictions: list[Any], dataset: Any, *, max_detections: int
) -> EvaluatorT:
    """pycocotools keeps the matches of each image; its twin in C++ only precision and recall."""
    # pycocotools prints its progress and results.
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval = evaluator(dataset.coco, dataset.coco.loadRes(predictions), "bbox")
        coco_eval.params.catIds = dataset.cat_ids
        coco_eval.params.imgIds = dataset.img_ids
        coco_eval.params.maxDets = [*_RECALL_LIMITS]
        if max_detections > _RECALL_LIMITS[-1]:
            coco_eval.params.maxDets.append(max_detections)
        coco_eval.evaluate()
    return coco_eval


def _select_existing(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """The values by name without COCO's -1, which stands for sizes without objects."""
    return {name: value for name, value in zip(names, values, strict=True) if value >= 0}


def _summarize_precision(precision_TRKAM: NDArray[Any]) -> list[float]:
    """`_AP_METRICS` at the last limit: `COCOeval.summarize` only knows a limit of 100."""
    precision_TRKA = precision_TRKAM[..., -1]
    by_area = [_average_existing(precision_TRKA[..., area]) for area in range(1 + len(_AREAS))]
    at_iou = [_average_existing(precision_TRKA[iou, :, :, 0]) for iou in (_IOU_50, _IOU_75)]
    return [by_area[0], *at_iou, *by_area[1:]]


def _summarize_recall(recall_TKAM: NDArray[Any]) -> list[float]:
    """`_AR_METRICS`: at each limit of their names, and by size at the last one."""
    at_limit = [_average_existing(recall_TKAM[:, :, 0, m]) for m in range(len(_RECALL_LIMITS))]
    by_size = [_average_existing(recall_TKAM[:, :, 1 + s, -1]) for s in range(len(_AREAS))]
    return [*at_limit, *by_size]


def _average_existing(values: NDArray[Any]) -> float:
    existing = values[values > -1]
    return float(existing.mean()) if existing.size else -1.0


def _compute_ap_by_class(coco_eval: Any, dataset: Any) -> dict[str, float | None]:
    """Average precision of each class; None for a class without objects."""
    precision = coco_eval.eval["precision"][:, :, :, 0, -1]
    values = {}
    for column, name in enumerate(dataset.CLASSES):
        of_class = precision[:, :, column]
        valid = of_class[of_class > -1]
        values[name] = float(valid.mean()) if valid.size else None
    return values


def _build_curve(precision_TR: NDArray[Any]) -> PrecisionCurve:
    return PrecisionCurve(precision_TR[_IOU_50], precision_TR[_IOU_75], precision_TR.mean(axis=0))


def _average_curves(curves: list[PrecisionCurve]) -> PrecisionCurve:
    valid = [curve for curve in curves if not np.isnan(curve.at_50).any()]
    if not valid:
        return curves[0]
    return PrecisionCurve(
        np.mean([curve.at_50 for curve in valid], axis=0),
        np.mean([curve.at_75 for curve in valid], axis=0),
        np.mean([curve.mean for curve in valid], axis=0),
    )


def _compute_recall_by_class(coco_eval: Any, dataset: Any) -> dict[str, float | None]:
    recall_TK = coco_eval.eval["recall"][:, :, 0, _RECALL_LIMITS.index(100)]
    means = [float(recall_TK[:, column].mean()) for column in range(len(dataset.CLASSES))]
    return {
        name: mean if mean >= 0 else None for name, mean in zip(dataset.CLASSES, means, strict=True)
    }


def list_objects(dataset: Any) -> list[dict[str, Any]]:
    """The annotations of an mmdet CocoDataset that COCO's protocol counts.

    Raises `DatasetError` if there is none.
    """
    ids = dataset.coco.getAnnIds(imgIds=dataset.img_ids, catIds=dataset.cat_ids, iscrowd=False)
    objects = [item for item in dataset.coco.loadAnns(ids) if item["area"] <= _LARGEST_AREA]
    if not objects:
        raise DatasetError(
            f"None of the {len(dataset):,} evaluated images has an object that is not a crowd, so "
            "there is no mAP."
        )
    return objects


def _zero_metrics(
    detections: list[Detections], dataset: Any, objects: list[dict[str, Any]]
) -> CocoMetrics:
    """The metrics without any prediction, which pycocotools does not accept."""
    areas_N = np.array([item["area"] for item in objects])
    sizes = {
        suffix: ((areas_N >= smallest) & (areas_N <= largest)).any()
        for suffix, (smallest, largest) in _AREAS.items()
    }
    classes = {item["category_id"] for item in objects}
    zeros_R = np.zeros_like(_RECALLS)
    zero_curve = PrecisionCurve(zeros_R, zeros_R, zeros_R)
    zeros = {
        name: 0.0 if category_id in classes else None
        for name, category_id in zip(dataset.CLASSES, dataset.cat_ids, strict=True)
    }
    by_metric, recall_by_metric = (
        {name: 0.0 for name in names if sizes.get(name[-2:], True)}
        for names in (_AP_METRICS, _AR_METRICS)
    )
    return CocoMetrics(
        by_metric=by_metric,
        ap_by_class=zeros,
        detections=detections,
        recall_by_metric=recall_by_metric,
        recall_by_class=zeros,
        curves=dict.fromkeys(dataset.CLASSES, zero_curve),
        overall=zero_curve,
    )


def _curve_entries(curve: PrecisionCurve) -> dict[str, list[float | None]]:
    by_threshold = {"0.50": curve.at_50, "0.75": curve.at_75, "0.50:0.95": curve.mean}
    return {
        name: [None if np.isnan(value) else round(float(value), 4) for value in values]
        for name, values in by_threshold.items()
    }
