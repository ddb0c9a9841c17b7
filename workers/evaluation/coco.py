"""How good a detector is on validation images: the COCO bbox protocol, as mmdet applies it."""

import contextlib
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader

from workers import distributed
from workers.data.batches import to_device
from workers.data.loaders import unwrap_dataset

MAX_DETECTIONS = (100, 300, 1000)
"""Detections per image that count, as in mmdet's CocoDataset.evaluate."""

Detections = list[np.ndarray]
"""One image's boxes by class, each (N, 5): left, top, right, bottom in pixels, score."""

_STATISTICS = {"": 0, "_50": 1, "_75": 2, "_s": 3, "_m": 4, "_l": 5}


@dataclass(frozen=True)
class CocoMetrics:
    """COCO's numbers; -1 where no object of that size exists."""

    by_metric: dict[str, float]
    """`bbox_mAP`, `bbox_mAP_50`, `_75`, `_s`, `_m`, `_l`."""

    ap_by_class: dict[str, float]
    """AP by class name."""

    detections: list[Detections]
    """By image; of several processes only the first one has them."""

    @property
    def mean_ap(self) -> float:
        """AP over IoU 0.50 to 0.95."""
        return self.by_metric["bbox_mAP"]


def evaluate(
    detector: Any,
    loader: DataLoader[Any],
    *,
    device: torch.device,
    on_batch: Callable[[], None] = lambda: None,
) -> CocoMetrics:
    """Measure an mmdet model on the images of `loader`; of all processes, if there are several."""
    was_training = detector.training
    detector.eval()
    mine: list[Detections] = []
    with torch.inference_mode():
        for batch in loader:
            mine += detector(return_loss=False, rescale=True, **to_device(batch, device))
            on_batch()
    detector.train(was_training)
    return _scored(mine, unwrap_dataset(loader))


def _scored(mine: list[Detections], dataset: Any) -> CocoMetrics:
    """The first process's scores of all processes' detections; the others know the numbers only."""
    by_process = distributed.gather_object(mine)
    scores = None if by_process is None else compute_metrics(merge_ranks(by_process), dataset)
    numbers = None if scores is None else (scores.by_metric, scores.ap_by_class)
    by_metric, per_class_ap = distributed.broadcast_object(numbers)
    return scores or CocoMetrics(by_metric, per_class_ap, detections=[])


def merge_ranks(by_process: list[list[Detections]]) -> list[Detections]:
    """The images' detections in their order: process r of n has images r, r + n, r + 2n, ..."""
    whole = itertools.chain.from_iterable(itertools.zip_longest(*by_process))
    return [detections for detections in whole if detections is not None]


def compute_metrics(detections: list[Detections], dataset: Any) -> CocoMetrics:
    """COCO's numbers for one list of detections per image of an mmdet CocoDataset."""
    predictions = dataset._det2json(detections)
    if not predictions:
        metrics = {f"bbox_mAP{suffix}": 0.0 for suffix in _STATISTICS}
        return CocoMetrics(metrics, dict.fromkeys(dataset.CLASSES, 0.0), detections)
    judge = run_cocoeval(predictions, dataset, max_detections=MAX_DETECTIONS)
    metrics = {f"bbox_mAP{suffix}": float(judge.stats[at]) for suffix, at in _STATISTICS.items()}
    return CocoMetrics(metrics, compute_ap_by_class(judge, dataset), detections)


def run_cocoeval(
    predictions: list[Any], dataset: Any, *, max_detections: tuple[int, ...]
) -> COCOeval:
    """COCO's judge after its work on predictions in COCO's own format; there must be some."""
    # pycocotools prints what it does; the numbers are said elsewhere.
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(dataset.coco, dataset.coco.loadRes(predictions), "bbox")
        judge.params.catIds = dataset.cat_ids
        judge.params.imgIds = dataset.img_ids
        judge.params.maxDets = list(max_detections)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def compute_ap_by_class(judge: Any, dataset: Any) -> dict[str, float]:
    """AP by class name; -1 where there are no objects of a class."""
    precision = judge.eval["precision"][:, :, :, 0, -1]
    values = {}
    for column, name in enumerate(dataset.CLASSES):
        known = precision[:, :, column]
        known = known[known > -1]
        values[name] = float(known.mean()) if known.size else -1.0
    return values


MAX_DETECTIONS = (1, 10, 100)
"""Detections per image, as COCO reports them; ours has 100 at most."""

_METRICS = (
    "bbox_mAP",
    "bbox_mAP_50",
    "bbox_mAP_75",
    "bbox_mAP_s",
    "bbox_mAP_m",
    "bbox_mAP_l",
    "bbox_AR_1",
    "bbox_AR_10",
    "bbox_AR_100",
    "bbox_AR_s",
    "bbox_AR_m",
    "bbox_AR_l",
)
"""COCO's twelve numbers in its own order; those by size count 100 detections per image."""

_IOU_50, _IOU_75 = 0, 5
"""Of the thresholds 0.50, 0.55 to 0.95."""

_RECALLS = np.linspace(0.0, 1.0, 101)

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class PrecisionCurve:
    """Precision at 101 recalls from 0 to 1; NaN where there are no objects."""

    at_50: Array
    at_75: Array
    mean: Array
    """Over the thresholds 0.50 to 0.95."""


@dataclass(frozen=True)
class DetailedCocoMetrics:
    """How good detections are; -1 where no object of that size or class exists."""

    by_metric: dict[str, float]
    ap_by_class: dict[str, float]
    ar_by_class: dict[str, float]
    """Recall with 100 detections per image, over the thresholds 0.50 to 0.95."""

    curves: dict[str, PrecisionCurve]
    """By class."""

    overall: PrecisionCurve
    """The mean over the classes that have objects."""


def compute_detailed_metrics(detections: list[Detections], dataset: Any) -> DetailedCocoMetrics:
    """COCO's numbers for one list of detections per image of an mmdet CocoDataset."""
    predictions = dataset._det2json(detections)
    if not predictions:
        return _nothing_found(dataset)
    judge = run_cocoeval(predictions, dataset, max_detections=MAX_DETECTIONS)
    precision = np.where(judge.eval["precision"] < 0, np.nan, judge.eval["precision"])
    curves = {
        name: _curve(precision[:, :, column, 0, -1]) for column, name in enumerate(dataset.CLASSES)
    }
    return DetailedCocoMetrics(
        by_metric={name: float(value) for name, value in zip(_METRICS, judge.stats, strict=True)},
        ap_by_class=compute_ap_by_class(judge, dataset),
        ar_by_class=_recall_by_class(judge, dataset),
        curves=curves,
        overall=_mean_of(list(curves.values())),
    )


def build_curves_document(measures: DetailedCocoMetrics) -> dict[str, Any]:
    """The curves as JSON holds them; null where there are no objects."""
    return {
        "recall": [round(float(recall), 2) for recall in _RECALLS],
        "all classes": _rows(measures.overall),
        "by_class": {name: _rows(curve) for name, curve in measures.curves.items()},
    }


def _curve(precision_TR: Array) -> PrecisionCurve:
    return PrecisionCurve(precision_TR[_IOU_50], precision_TR[_IOU_75], precision_TR.mean(axis=0))


def _mean_of(curves: list[PrecisionCurve]) -> PrecisionCurve:
    known = [curve for curve in curves if not np.isnan(curve.at_50).any()]
    if not known:
        return curves[0]
    return PrecisionCurve(
        np.mean([curve.at_50 for curve in known], axis=0),
        np.mean([curve.at_75 for curve in known], axis=0),
        np.mean([curve.mean for curve in known], axis=0),
    )


def _recall_by_class(judge: Any, dataset: Any) -> dict[str, float]:
    recall_TK = judge.eval["recall"][:, :, 0, -1]
    return {name: float(recall_TK[:, column].mean()) for column, name in enumerate(dataset.CLASSES)}


def _nothing_found(dataset: Any) -> DetailedCocoMetrics:
    flat = np.zeros_like(_RECALLS)
    nothing = PrecisionCurve(flat, flat, flat)
    zeros = dict.fromkeys(dataset.CLASSES, 0.0)
    return DetailedCocoMetrics(
        by_metric=dict.fromkeys(_METRICS, 0.0),
        ap_by_class=zeros,
        ar_by_class=zeros,
        curves=dict.fromkeys(dataset.CLASSES, nothing),
        overall=nothing,
    )


def _rows(curve: PrecisionCurve) -> dict[str, list[float | None]]:
    named = {"0.50": curve.at_50, "0.75": curve.at_75, "0.50:0.95": curve.mean}
    return {
        name: [None if np.isnan(value) else round(float(value), 4) for value in values]
        for name, values in named.items()
    }
