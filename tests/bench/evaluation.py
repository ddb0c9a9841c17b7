"""An evaluation compared with mmdet's `single_gpu_test` and pycocotools, on digits.

Both sides load the same images, run the shipped digits teacher and compute COCO's metrics. mmdet
loads single images, as its `tools/test.py` does by default; a second row gives it our batches.
"""

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mmcv
import torch
from mmcv.parallel import MMDataParallel, collate
from mmdet.apis import single_gpu_test
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader

from configs.spec.references import TeacherFiles
from tests.bench.table import Comparison, measure_alternately
from workers.data.digits import CLASSES, DigitsRecipe, draw_split
from workers.data.manifest import SPLITS, Origin, check_dataset, write_manifest
from workers.data.resolve import LocalDataset
from workers.evaluation.coco import evaluate
from workers.evaluation.inference import ImageSelection, build_image_loader, load_model
from workers.process import compat

TARGET = 0.4
"""Largest share of mmdet's time."""

TOLERANCE = 1e-6
"""Largest difference of AP."""

STUDENT_IMAGES = DigitsRecipe(
    train=4, val=100, image_size=96, smallest=14, largest=64, most_objects=5
)
"""As `digits`, with fewer images."""

_BATCH_SIZE = 16
_TEACHER = Path(__file__).parents[2] / "configs/teachers"
_CPU = torch.device("cpu")


def measure_evaluation(*, rounds: int, folder: Path, images: int = 100) -> list[Comparison]:
    """Compare the evaluation of the digits teacher on `images` images, which are drawn in `folder`.

    Raises `ValueError` if AP differs by more than `TOLERANCE`.
    """
    compat.apply_patches()
    with _hide_progress():
        return list(_iter_comparisons(_EvaluationPair(folder, images), rounds=rounds))


@contextlib.contextmanager
def _hide_progress() -> Iterator[None]:
    """Keep mmdet's progress bar, which writes to the first standard output, from the terminal."""
    progress_bar = mmcv.ProgressBar
    mmcv.ProgressBar = partial(progress_bar, file=io.StringIO())
    try:
        yield
    finally:
        mmcv.ProgressBar = progress_bar


class _EvaluationPair:
    """The same model and images, for our evaluation and for mmdet's."""

    def __init__(self, folder: Path, images: int) -> None:
        recipe = replace(STUDENT_IMAGES, val=images)
        contents = {name: draw_split(folder, name, recipe) for name in SPLITS}
        origin = Origin(str(recipe), "none")
        write_manifest(folder, name="digits", classes=CLASSES, contents=contents, origin=origin)
        card = json.loads((_TEACHER / "digits-teacher.json").read_text())
        files = TeacherFiles(
            checkpoint=str(_TEACHER / "digits-teacher.pth"),
            detector=card["detector"],
            classes=card["classes"],
        )
        self.module = load_model(files, device=_CPU).module
        selection = ImageSelection(
            LocalDataset(folder, check_dataset(folder, digest=None)), (96, 96)
        )
        self.loader = build_image_loader(files.detector, selection, batch_size=_BATCH_SIZE)
        self.dataset: Any = self.loader.dataset

    def evaluate(self) -> float:
        """AP by our evaluation."""
        metrics = evaluate(self.module, self.loader, device=_CPU, max_detections=100)
        return metrics.mean_ap

    def evaluate_with_mmdet(self, *, batch_size: int) -> float:
        """AP by mmdet's testing function and pycocotools."""
        loader = DataLoader(
            self.dataset,
            batch_size=batch_size,
            collate_fn=partial(collate, samples_per_gpu=batch_size),
        )
        detections = single_gpu_test(MMDataParallel(self.module, device_ids=[-1]), loader)
        boxes = self.dataset.coco.loadRes(self.dataset._det2json(detections))
        coco_eval = COCOeval(self.dataset.coco, boxes, "bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
        return float(coco_eval.stats[0])


def _iter_comparisons(pair: _EvaluationPair, *, rounds: int) -> Iterator[Comparison]:
    for batch_size, target in ((1, TARGET), (_BATCH_SIZE, None)):
        evaluate_with_mmdet = partial(pair.evaluate_with_mmdet, batch_size=batch_size)
        _check_same_ap(pair.evaluate(), evaluate_with_mmdet())
        yield Comparison(
            f"evaluation, mmdet's batches of {batch_size}",
            *measure_alternately(pair.evaluate, evaluate_with_mmdet, rounds=rounds),
            target=target,
        )


def _check_same_ap(mean_ap: float, expected: float) -> None:
    if abs(mean_ap - expected) > TOLERANCE:
        raise ValueError(f"AP is {mean_ap}, and {expected} by mmdet and pycocotools.")
