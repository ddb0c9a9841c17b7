"""A trained detector that looks at images: its weights, its device, the images' loader."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from mmdet.models import build_detector
from torch.utils.data import DataLoader

from configs.spec.detector import Detector
from configs.spec.jobs import Model
from configs.spec.run import TeacherFiles
from workers.checkpoints.files import StateDict, compute_sha256, load_weights
from workers.data.batches import HostBatch
from workers.data.datasets import open_dataset
from workers.data.loaders import limit_images
from workers.data.resolve import LocalDataset
from workers.errors import InvalidSpec, ModelMismatch
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_data_config
from workers.process.children import make_worker_init_fn

_OF_TRAINING_ONLY = "adapters."
"""Weights of a student's last checkpoint that help it to learn and are no part of it."""

ImageSize = tuple[int, int]


@dataclass(frozen=True)
class LoadedDetector:
    """A detector with its weights, in evaluation mode."""

    module: Any
    """An mmdet model."""

    sha256: str
    """Of the checkpoint."""


@dataclass(frozen=True)
class ImageSelection:
    """Which images are looked at, and how large."""

    dataset: LocalDataset
    size: ImageSize | None
    split: Literal["val", "train"] = "val"
    max_images: int | None = None
    """Only so many; none: all."""

    num_workers: int = 0
    pin_memory: bool = False
    """Load into memory from which a GPU copies by itself."""


def resolve_model_files(model: Model) -> TeacherFiles:
    """The model as files; names are for the service."""
    if not isinstance(model, TeacherFiles):
        raise InvalidSpec("model is a name, which the service resolves; give model.checkpoint.")
    return model


def load_model(files: TeacherFiles, *, device: torch.device) -> LoadedDetector:
    """The detector of a checkpoint.

    Raises `ModelMismatch` if the file is missing, unreadable, another one than its SHA-256 says, or
    does not fit the architecture.
    """
    path = Path(files.checkpoint)
    if not path.is_file():
        raise ModelMismatch(f"There is no checkpoint at {path}.")
    found = compute_sha256(path)
    if files.sha256 is not None and found != files.sha256:
        raise ModelMismatch(
            f"The checkpoint {path} is not the one that was meant: its SHA-256 is {found}, "
            f"expected {files.sha256}."
        )
    module = build_detector(
        build_detector_config(_without_downloads(files.detector), classes=files.classes)
    )
    try:
        module.load_state_dict(_weights(path), strict=True)
    except RuntimeError as error:
        raise ModelMismatch(
            f"The checkpoint {path} does not fit its architecture and classes: {error}"
        ) from error
    module.CLASSES = files.classes
    return LoadedDetector(module.to(device).eval(), found)


def build_image_loader(
    detector: Detector, images: ImageSelection, *, batch_size: int = 1
) -> DataLoader[Any]:
    """Images in their order, as `detector` expects them."""
    if images.size is None:
        raise InvalidSpec("image_size is missing, and the model's run does not say it.")
    config = build_data_config(detector, dataset=images.dataset, image_size=images.size)
    asked = config["val"] | {key: config[images.split][key] for key in ("ann_file", "img_prefix")}
    found = open_dataset(asked)
    return DataLoader(
        limit_images(found, images.max_images),
        batch_size=batch_size,
        num_workers=images.num_workers,
        collate_fn=HostBatch.from_samples,
        worker_init_fn=make_worker_init_fn(),
        pin_memory=images.pin_memory,
    )


def _without_downloads(detector: Detector) -> Detector:
    """Without ImageNet weights: the checkpoint has them all."""
    backbone = detector.backbone.model_copy(update={"pretrained": None})
    return detector.model_copy(update={"backbone": backbone})


def _weights(path: Path) -> StateDict:
    try:
        weights = load_weights(path)
    # What torch raises: code or another format, a file without content, a cut archive.
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise ModelMismatch(
            f"The checkpoint {path} is damaged or holds more than weights and plain values."
        ) from error
    return {
        name: weight for name, weight in weights.items() if not name.startswith(_OF_TRAINING_ONLY)
    }
