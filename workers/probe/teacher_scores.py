"""The teacher's own mAP on the validation images; measured once for many probes."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from configs.spec.run import RunSpec, TeacherFiles
from workers.checkpoints.files import write_atomically
from workers.data.loaders import build_validation_loader
from workers.distillation.teacher import Teacher
from workers.evaluation.coco import evaluate
from workers.probe.builder import StudentFactory, disable_loader_workers

_SCORES: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])


@dataclass(frozen=True)
class ScoreCache:
    """A folder with a file for each teacher, dataset and way to show its images."""

    folder: Path

    def load(self, key: str) -> dict[str, float] | None:
        """COCO's numbers; none: not measured yet, or not readable any more."""
        try:
            return _SCORES.validate_json(self._file(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def save(self, key: str, scores: dict[str, float]) -> None:
        """Write COCO's numbers down."""
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
    """COCO's numbers; none without a teacher, or if it knows other classes than the labels."""
    if teacher is None or spec.teacher_classes != "same":
        return None
    key = score_key(factory, spec, sha256=teacher.sha256)
    known = None if cache is None else cache.load(key)
    if known is not None:
        return known
    loader = build_validation_loader(factory.config(spec), spec=disable_loader_workers(spec))
    found = evaluate(teacher.detector, loader, device=factory.device, on_batch=on_batch)
    scores = found.by_metric
    if cache is not None:
        cache.save(key, scores)
    return scores


def score_key(factory: StudentFactory, spec: RunSpec, *, sha256: str) -> str:
    """Equal where the same teacher sees the same images in the same way."""
    assert isinstance(spec.teacher, TeacherFiles)
    shown: Any = factory.config(spec).data.val.pipeline
    what = {
        "teacher": sha256,
        "detector": spec.teacher.detector.model_dump(mode="json"),
        "classes": spec.teacher.classes,
        "dataset": factory.dataset.manifest.digest,
        "images": spec.evaluation.val_images,
        "pipeline": shown,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
