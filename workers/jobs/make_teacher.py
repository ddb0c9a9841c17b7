"""Makes a teacher out of a finished run: its best weights in half precision, and a card."""

import json
from pathlib import Path
from typing import Any

import torch
from mmdet.models import build_detector

from configs.protocol.names import RunFile
from configs.spec.run import DatasetFiles, RunSpec
from workers.checkpoints.files import load_teacher_weights, load_weights, save_atomically
from workers.data.loaders import build_validation_loader
from workers.data.manifest import check_dataset
from workers.data.resolve import LocalDataset
from workers.errors import InvalidSpec
from workers.evaluation.coco import evaluate
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_training_config


def make_teacher(run_dir: Path, *, name: str, out: Path) -> dict[str, Any]:
    """Write `<name>.pth` and `<name>.json` to `out`; the card has the written weights' mAP."""
    spec = RunSpec.model_validate_json((run_dir / RunFile.SPEC).read_bytes())
    if not isinstance(spec.data.dataset, DatasetFiles):
        raise InvalidSpec("The run's spec names its dataset; make it from a run's own folder.")
    root = Path(spec.data.dataset.root)
    dataset = LocalDataset(root, check_dataset(root, digest=spec.data.dataset.digest))
    weights = {key: _halved(value) for key, value in load_weights(run_dir / RunFile.BEST).items()}
    path = out / f"{name}.pth"
    save_atomically({"meta": {"CLASSES": dataset.manifest.classes}, "state_dict": weights}, path)

    detector = build_detector(build_detector_config(spec.student, classes=dataset.manifest.classes))
    sha256 = load_teacher_weights(detector, path, sha256=None)
    loader = build_validation_loader(
        build_training_config(spec, dataset=dataset, run_dir=run_dir), spec=spec
    )
    scores = evaluate(detector, loader, device=torch.device("cpu"))
    card = {
        "name": name,
        "sha256": sha256,
        "detector": spec.student.model_dump(mode="json"),
        "classes": list(dataset.manifest.classes),
        "measured_map": round(scores.mean_ap, 4),
        "source": (
            f"trained on {dataset.manifest.source} (digest {dataset.manifest.digest}), "
            "made by tandem-worker make-teacher"
        ),
    }
    (out / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value
