"""COCO metrics of the teacher on the validation images, cached over probes."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from configs.atomic_files import write_atomically
from configs.spec.references import TeacherFiles
from configs.spec.run import RunSpec
from workers.data.loaders import build_validation_loader
from workers.distillation.teacher import Teacher
from workers.evaluation.coco import evaluate
from workers.probe.builder import StudentFactory, disable_loader_workers

_SCORES: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])


@dataclass(frozen=True)
class ScoreCache:
    """A folder with one file per teacher, dataset and preprocessing."""

    folder: Path

    def load(self, key: str) -> dict[str, float] | None:
        """COCO metrics; None if they are not cached or the file is damaged."""
        try:
            return _SCORES.validate_json(self._file(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def save(self, key: str, scores: dict[str, float]) -> None:
        """Write COCO metrics to the cache atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file(key), _SCORES.dump_json(scores, indent=2) + b"\n")

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def measure_teacher_scores(
    factory: StudentFactory,
    spec: RunSpec,
    teacher: Teacher | None,
    *,
    cache: ScoreCache | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, float] | None:
    """Evaluate the teacher, or read its metrics from the cache.

    None without a teacher, or if the teacher has other classes than the dataset.
    """
    if teacher is None or spec.teacher_classes != "same":
        return None
    key = score_key(factory, spec, sha256=teacher.sha256)
    cached = None if cache is None else cache.load(key)
    if cached is not None:
        return cached
    loader = build_validation_loader(factory.config(spec).data, spec=disable_loader_workers(spec))
    evaluation = evaluate(
        teacher.detector,
        loader,
        device=factory.device,
        max_detections=spec.evaluation.max_detections,
        on_batch=on_batch,
    )
    scores = evaluation.by_metric
    if cache is not None:
        cache.save(key, scores)
    return scores


def score_key(factory: StudentFactory, spec: RunSpec, *, sha256: str) -> str:
    """Cache key of the teacher, the images and their preprocessing, a SHA-256."""
    assert isinstance(spec.teacher, TeacherFiles)
    pipeline: Any = factory.config(spec).data.val.pipeline
    key_fields = {
        "teacher": sha256,
        "detector": spec.teacher.detector.model_dump(mode="json"),
        "classes": spec.teacher.classes,
        "dataset": factory.dataset.manifest.digest,
        "images": spec.evaluation.val_images,
        "pipeline": pipeline,
        **spec.evaluation.model_dump(include={"max_detections"}),
    }
    return hashlib.sha256(json.dumps(key_fields, sort_keys=True).encode()).hexdigest()
