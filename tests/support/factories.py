"""Specs, datasets and teachers for tests: valid by default."""

import json
from pathlib import Path
from typing import Any

from configs.catalog import parse_spec
from configs.spec.dataset import MANIFEST, DatasetManifest, Split
from configs.spec.detector import Detector, ResNet
from service.adapters.clock import FixedClock
from service.domain.run_fields import build_run
from service.domain.runs import Run
from service.domain.states import RunState

CLASSES = ("cat", "dog")
NO_HASH = "0" * 64


def make_spec(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "student": {"backbone": {"depth": 18, "width": 0.25}},
        "data": {"dataset": {"name": "pets"}, "image_size": [96, 96], "batch_size": 4},
        "schedule": {"epochs": 2},
    }
    return spec | changes


def make_bckd_spec(**changes: Any) -> dict[str, Any]:
    return make_spec(teacher={"name": "big"}, distillation={"method": "bckd"}) | changes


def make_detector_spec() -> Detector:
    return Detector(backbone=ResNet(depth=34, width=0.5))


def make_manifest(*, name: str = "pets", classes: tuple[str, ...] = CLASSES) -> DatasetManifest:
    splits = {
        part: Split(
            annotations=f"annotations/{part}.json",
            images=f"images/{part}",
            num_images=2,
            num_boxes=3,
            annotations_sha256=NO_HASH,
        )
        for part in ("train", "val")
    }
    return DatasetManifest(
        name=name, classes=classes, digest=NO_HASH, source="made", license="none", **splits
    )


def make_images_manifest(*, name: str = "photos") -> DatasetManifest:
    """Of images without labels."""
    document = make_manifest(name=name).model_dump() | {"classes": ()}
    document["train"]["num_boxes"] = document["val"]["num_boxes"] = 0
    document["val"]["num_images"] = 0
    return DatasetManifest.model_validate(document)


def write_dataset(root: Path, manifest: DatasetManifest | None = None) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    document = (manifest or make_manifest()).model_dump(mode="json")
    (root / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    return root


def write_checkpoint(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


def make_run(**changes: Any) -> Run:
    """A queued run with these values by `RUN_FIELDS`."""
    now = FixedClock().now()
    record = {
        "id": "r" + "0" * 12,
        "name": "a run",
        "preset": None,
        "spec": parse_spec(make_spec()),
        "state": RunState.QUEUED,
        "created_at": now,
        "updated_at": now,
    }
    return build_run(record | changes)
