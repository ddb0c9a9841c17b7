"""Detections in images of a generated digits set, in the files that runs write."""

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
from workers.evaluation.detection import Detections


class RunFolders:
    """Folders of runs that were evaluated on the same digits set."""

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

    def write_run(
        self, run: str, *, student: float, teacher: float | None = None, seed: int = 0
    ) -> None:
        """Write the files of a run; `student` and `teacher` are their recalls."""
        run_folder = self.folder / run
        run_folder.mkdir(parents=True, exist_ok=True)
        self._save(run_folder / RunFile.MATCHES, recall=student, seed=seed)
        if teacher is not None:
            self._save(run_folder / RunFile.TEACHER_MATCHES, recall=teacher, seed=1000)

    def _save(self, path: Path, *, recall: float, seed: int) -> None:
        save_matches(match_detections(self._detections(recall, seed), self._dataset), path)

    def _detections(self, recall: float, seed: int) -> list[Detections]:
        rng = np.random.default_rng(seed)
        return [
            self._detections_of_image(index, recall, rng) for index in range(len(self._dataset))
        ]

    def _detections_of_image(self, index: int, recall: float, rng: np.random.Generator) -> Any:
        truth = self._dataset.get_ann_info(index)
        rows: list[list[list[float]]] = [[] for _ in self._dataset.CLASSES]
        for box, label in zip(truth["bboxes"], truth["labels"], strict=True):
            score = float(rng.uniform(0.4, 1.0))
            if rng.random() < recall:
                rows[int(label)].append([*map(float, box), score])
        return [np.array(class_rows, dtype=np.float32).reshape(-1, 5) for class_rows in rows]
