"""Everything COCO says of detections: AP and AR in all their parts, and the curves behind them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.evaluation import Detections, judged, per_class

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
class Curve:
    """Precision at 101 recalls from 0 to 1; NaN where there are no objects."""

    at_50: Array
    at_75: Array
    mean: Array
    """Over the thresholds 0.50 to 0.95."""


@dataclass(frozen=True)
class Measures:
    """How good detections are; -1 where no object of that size or class exists."""

    by_metric: dict[str, float]
    ap_by_class: dict[str, float]
    ar_by_class: dict[str, float]
    """Recall with 100 detections per image, over the thresholds 0.50 to 0.95."""

    curves: dict[str, Curve]
    """By class."""

    overall: Curve
    """The mean over the classes that have objects."""


def measure(detections: list[Detections], dataset: Any) -> Measures:
    """COCO's numbers for one list of detections per image of an mmdet CocoDataset."""
    predictions = dataset._det2json(detections)
    if not predictions:
        return _nothing_found(dataset)
    judge = judged(predictions, dataset, max_detections=MAX_DETECTIONS)
    precision = np.where(judge.eval["precision"] < 0, np.nan, judge.eval["precision"])
    curves = {
        name: _curve(precision[:, :, column, 0, -1]) for column, name in enumerate(dataset.CLASSES)
    }
    return Measures(
        by_metric={name: float(value) for name, value in zip(_METRICS, judge.stats, strict=True)},
        ap_by_class=per_class(judge, dataset),
        ar_by_class=_recall_by_class(judge, dataset),
        curves=curves,
        overall=_mean_of(list(curves.values())),
    )


def curves_document(measures: Measures) -> dict[str, Any]:
    """The curves as JSON holds them; null where there are no objects."""
    return {
        "recall": [round(float(recall), 2) for recall in _RECALLS],
        "all classes": _rows(measures.overall),
        "by_class": {name: _rows(curve) for name, curve in measures.curves.items()},
    }


def _curve(precision_TR: Array) -> Curve:
    return Curve(precision_TR[_IOU_50], precision_TR[_IOU_75], precision_TR.mean(axis=0))


def _mean_of(curves: list[Curve]) -> Curve:
    known = [curve for curve in curves if not np.isnan(curve.at_50).any()]
    if not known:
        return curves[0]
    return Curve(
        np.mean([curve.at_50 for curve in known], axis=0),
        np.mean([curve.at_75 for curve in known], axis=0),
        np.mean([curve.mean for curve in known], axis=0),
    )


def _recall_by_class(judge: Any, dataset: Any) -> dict[str, float]:
    recall_TK = judge.eval["recall"][:, :, 0, -1]
    return {name: float(recall_TK[:, column].mean()) for column, name in enumerate(dataset.CLASSES)}


def _nothing_found(dataset: Any) -> Measures:
    flat = np.zeros_like(_RECALLS)
    nothing = Curve(flat, flat, flat)
    zeros = dict.fromkeys(dataset.CLASSES, 0.0)
    return Measures(
        by_metric=dict.fromkeys(_METRICS, 0.0),
        ap_by_class=zeros,
        ar_by_class=zeros,
        curves=dict.fromkeys(dataset.CLASSES, nothing),
        overall=nothing,
    )


def _rows(curve: Curve) -> dict[str, list[float | None]]:
    named = {"0.50": curve.at_50, "0.75": curve.at_75, "0.50:0.95": curve.mean}
    return {
        name: [None if np.isnan(value) else round(float(value), 4) for value in values]
        for name, values in named.items()
    }
