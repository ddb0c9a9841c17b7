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

from workers import processes
from workers.batches import place
from workers.loading import whole_dataset

MAX_DETECTIONS = (100, 300, 1000)
"""Detections per image that count, as in mmdet's CocoDataset.evaluate."""

Detections = list[np.ndarray]
"""One image's boxes by class, each (N, 5): left, top, right, bottom in pixels, score."""

_STATISTICS = {"": 0, "_50": 1, "_75": 2, "_s": 3, "_m": 4, "_l": 5}


@dataclass(frozen=True)
class Scores:
    """COCO's numbers; -1 where no object of that size exists."""

    by_metric: dict[str, float]
    """`bbox_mAP`, `bbox_mAP_50`, `_75`, `_s`, `_m`, `_l`."""

    per_class: dict[str, float]
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
) -> Scores:
    """Measure an mmdet model on the images of `loader`; of all processes, if there are several."""
    was_training = detector.training
    detector.eval()
    mine: list[Detections] = []
    with torch.inference_mode():
        for batch in loader:
            mine += detector(return_loss=False, rescale=True, **place(batch, device))
            on_batch()
    detector.train(was_training)
    return _scored(mine, whole_dataset(loader))


def _scored(mine: list[Detections], dataset: Any) -> Scores:
    """The first process's scores of all processes' detections; the others know the numbers only."""
    by_process = processes.gathered_by_first(mine)
    scores = None if by_process is None else score(interleaved(by_process), dataset)
    numbers = None if scores is None else (scores.by_metric, scores.per_class)
    by_metric, per_class_ap = processes.from_first(numbers)
    return scores or Scores(by_metric, per_class_ap, detections=[])


def interleaved(by_process: list[list[Detections]]) -> list[Detections]:
    """The images' detections in their order: process r of n has images r, r + n, r + 2n, ..."""
    whole = itertools.chain.from_iterable(itertools.zip_longest(*by_process))
    return [detections for detections in whole if detections is not None]


def score(detections: list[Detections], dataset: Any) -> Scores:
    """COCO's numbers for one list of detections per image of an mmdet CocoDataset."""
    predictions = dataset._det2json(detections)
    if not predictions:
        metrics = {f"bbox_mAP{suffix}": 0.0 for suffix in _STATISTICS}
        return Scores(metrics, dict.fromkeys(dataset.CLASSES, 0.0), detections)
    judge = judged(predictions, dataset, max_detections=MAX_DETECTIONS)
    metrics = {f"bbox_mAP{suffix}": float(judge.stats[at]) for suffix, at in _STATISTICS.items()}
    return Scores(metrics, per_class(judge, dataset), detections)


def judged(predictions: list[Any], dataset: Any, *, max_detections: tuple[int, ...]) -> COCOeval:
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


def per_class(judge: Any, dataset: Any) -> dict[str, float]:
    """AP by class name; -1 where there are no objects of a class."""
    precision = judge.eval["precision"][:, :, :, 0, -1]
    values = {}
    for column, name in enumerate(dataset.CLASSES):
        known = precision[:, :, column]
        known = known[known > -1]
        values[name] = float(known.mean()) if known.size else -1.0
    return values
