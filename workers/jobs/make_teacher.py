"""Turns a finished run into a teacher: its best weights in half precision, and a card."""

import json
from pathlib import Path
from typing import Any

import torch
from mmdet.models import build_detector

from configs.protocol.names import RunFile
from configs.spec.base import DEFAULT_MAX_DETECTIONS
from configs.spec.references import DatasetFiles
from configs.spec.run import RunSpec
from workers.checkpoints.files import load_teacher_weights, load_weights, save_atomically
from workers.data.loaders import build_validation_loader
from workers.data.resolve import resolve_dataset
from workers.errors import InvalidSpec
from workers.evaluation.coco import evaluate
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_training_data_config
from workers.telemetry.run_folder import read_run_spec


def make_teacher(run_dir: Path, *, name: str, out: Path) -> dict[str, Any]:
    """Write `<name>.pth` and its card `<name>.json` to `out`; returns the card.

    The card contains the mAP of the weights as written, in half precision. Raises `InvalidSpec` if
    it is not the folder of a training run, or another version of Tandem trained it.
    """
    spec = read_run_spec(run_dir)
    if not isinstance(spec, RunSpec):
        raise InvalidSpec(f"{run_dir} is not the folder of a training run.")
    if not isinstance(spec.data.dataset, DatasetFiles):
        raise InvalidSpec(
            "The run's spec refers to its dataset by name; use the spec in a run's own folder."
        )
    dataset = resolve_dataset(spec.data.dataset)
    weights = {key: _to_half(value) for key, value in load_weights(run_dir / RunFile.BEST).items()}
    path = out / f"{name}.pth"
    save_atomically({"meta": {"CLASSES": dataset.manifest.classes}, "state_dict": weights}, path)

    limit = spec.evaluation.max_detections
    config = build_detector_config(
        spec.student, classes=dataset.manifest.classes, max_detections=limit
    )
    detector = build_detector(config)
    sha256 = load_teacher_weights(detector, path, sha256=None)
    loader = build_validation_loader(build_training_data_config(spec, dataset=dataset), spec=spec)
    metrics = evaluate(detector, loader, device=torch.device("cpu"), max_detections=limit)
    card = {
        "name": name,
        "sha256": sha256,
        "detector": spec.student.architecture.model_dump(mode="json"),
        "classes": list(dataset.manifest.classes),
        "measured_map": round(metrics.mean_ap, 4),
        "source": (
            f"trained on {dataset.manifest.source} (digest {dataset.manifest.digest}), "
            f"made by tandem-worker make-teacher{_describe_limit(limit)}"
        ),
    }
    (out / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _describe_limit(max_detections: int) -> str:
    """What `measured_map` was measured with, if that is not the default."""
    if max_detections == DEFAULT_MAX_DETECTIONS:
        return ""
    return f"; its mAP counts at most {max_detections} detections of an image"


def _to_half(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value
