"""Detections in the images of a digits set that is drawn for a test, as runs leave them behind."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import build_dataset

from configs.protocol.names import RunFile
from tests.support.training.digits import write_digits
from workers.analysis.matches import match_detections, save_matches
from workers.data.manifest import read_manifest
from workers.evaluation.coco import Detections


class Runs:
    """A folder of runs that were measured on one digits set."""

    def __init__(self, folder: Path, *, images: int = 12) -> None:
        self.folder = folder
        self.data = write_digits(folder / "data", train=2, val=images)
        manifest = read_manifest(self.data)
        config = {
            "type": "CocoDataset",
            "ann_file": str(self.data / manifest.val.annotations),
            "img_prefix": str(self.data / manifest.val.images),
            "pipeline": [],
            "test_mode": True,
            "classes": manifest.classes,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            self._dataset = build_dataset(config)

    def leave(
        self, run: str, *, student: float, teacher: float | None = None, seed: int = 0
    ) -> None:
        """What a run leaves in its folder; `student` and `teacher` are the shares they find."""
        place = self.folder / run
        place.mkdir(parents=True, exist_ok=True)
        self._save(place / RunFile.MATCHES, share=student, seed=seed)
        if teacher is not None:
            self._save(place / RunFile.TEACHER_MATCHES, share=teacher, seed=1000)

    def _save(self, path: Path, *, share: float, seed: int) -> None:
        save_matches(match_detections(self._detections(share, seed), self._dataset), path)

    def _detections(self, share: float, seed: int) -> list[Detections]:
        random = np.random.default_rng(seed)
        return [self._of_image(at, share, random) for at in range(len(self._dataset))]

    def _of_image(self, at: int, share: float, random: np.random.Generator) -> Any:
        truth = self._dataset.get_ann_info(at)
        rows: list[list[list[float]]] = [[] for _ in self._dataset.CLASSES]
        for box, label in zip(truth["bboxes"], truth["labels"], strict=True):
            score = float(random.uniform(0.4, 1.0))
            if random.random() < share:
                rows[int(label)].append([*map(float, box), score])
        return [np.array(of_class, dtype=np.float32).reshape(-1, 5) for of_class in rows]
