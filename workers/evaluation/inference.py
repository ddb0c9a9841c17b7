"""Loads a trained detector, and the images for its inference."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from mmdet.models import build_detector
from torch.utils.data import DataLoader

from configs.spec.base import DEFAULT_MAX_DETECTIONS
from configs.spec.detector import Detector
from configs.spec.jobs import Model
from configs.spec.references import TeacherFiles
from workers.checkpoints.files import StateDict, compute_sha256, load_weights
from workers.data.batches import HostBatch
from workers.data.datasets import open_dataset
from workers.data.loaders import limit_images
from workers.data.resolve import LocalDataset
from workers.errors import InvalidSpec, ModelMismatch
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_data_config
from workers.process.children import make_worker_init_fn

_TRAINING_ONLY_PREFIX = "adapters."
"""Weights of distillation adapters, which a training checkpoint has and the detector has not."""

ImageSize = tuple[int, int]


@dataclass(frozen=True)
class LoadedDetector:
    """An mmdet detector with its weights, in evaluation mode."""

    module: Any
    sha256: str
    """SHA-256 of the checkpoint file."""


@dataclass(frozen=True)
class ImageSelection:
    """Which images of a dataset are loaded, and at which size."""

    dataset: LocalDataset
    size: ImageSize | None
    """None is refused by `build_image_loader`: neither the spec nor the model's run has a size."""

    split: Literal["val", "train"] = "val"
    max_images: int | None = None
    """Number of images to load, from the first; None for all."""

    num_workers: int = 0
    pin_memory: bool = False
    """Load into page-locked memory, for asynchronous copies to a GPU."""


def resolve_model_files(model: Model) -> TeacherFiles:
    """The files of a model; `InvalidSpec` for a name, which only the service can resolve."""
    if not isinstance(model, TeacherFiles):
        raise InvalidSpec("model is a name, which the service resolves; give model.checkpoint.")
    return model


def load_model(
    files: TeacherFiles, *, device: torch.device, max_detections: int = DEFAULT_MAX_DETECTIONS
) -> LoadedDetector:
    """Build a detector that reports at most `max_detections` boxes of an image, and load its
    checkpoint.

    Raises `ModelMismatch` if the file is missing or damaged, or does not match its SHA-256 or the
    architecture.
    """
    path = Path(files.checkpoint)
    if not path.is_file():
        raise ModelMismatch(f"There is no checkpoint at {path}.")
    sha256 = compute_sha256(path)
    if files.sha256 is not None and sha256 != files.sha256:
        raise ModelMismatch(
            f"The checkpoint {path} is not the expected one: its SHA-256 is {sha256}, "
            f"expected {files.sha256}."
        )
    module = build_detector(
        build_detector_config(
            _disable_pretrained(files.detector),
            classes=files.classes,
            max_detections=max_detections,
        )
    )
    try:
        module.load_state_dict(_load_detector_weights(path), strict=True)
    except RuntimeError as error:
        raise ModelMismatch(
            f"The checkpoint {path} does not fit its architecture and classes: {error}"
        ) from error
    module.CLASSES = files.classes
    return LoadedDetector(module.to(device).eval(), sha256)


def build_image_loader(
    detector: Detector, images: ImageSelection, *, batch_size: int = 1
) -> DataLoader[Any]:
    """Build a loader of the images in dataset order, preprocessed as `detector` expects them."""
    if images.size is None:
        raise InvalidSpec("image_size is missing, and the model's run does not say it.")
    config = build_data_config(detector, dataset=images.dataset, image_size=images.size)
    dataset = open_dataset(
        config["val"] | {key: config[images.split][key] for key in ("ann_file", "img_prefix")}
    )
    return DataLoader(
        limit_images(dataset, images.max_images),
        batch_size=batch_size,
        num_workers=images.num_workers,
        collate_fn=HostBatch.from_samples,
        worker_init_fn=make_worker_init_fn(),
        pin_memory=images.pin_memory,
    )


def _disable_pretrained(detector: Detector) -> Detector:
    """Do not download ImageNet weights: the checkpoint replaces them."""
    backbone = detector.backbone.model_copy(update={"pretrained": None})
    return detector.model_copy(update={"backbone": backbone})


def _load_detector_weights(path: Path) -> StateDict:
    try:
        weights = load_weights(path)
    # torch raises these for pickled code, other formats, and empty or truncated files.
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise ModelMismatch(
            f"The checkpoint {path} is damaged or holds more than weights and plain values."
        ) from error
    return {
        name: weight
        for name, weight in weights.items()
        if not name.startswith(_TRAINING_ONLY_PREFIX)
    }
