"""The original mmdet detector, which exported files are compared with."""

from typing import Any

import numpy as np
import torch
from mmdet.datasets.pipelines import Compose
from numpy.typing import NDArray

from workers.data.batches import HostBatch, to_device
from workers.evaluation.detection import Detections
from workers.export.tandem_runtime import ImageDetections


class MmdetDetector:
    """An mmdet model with its preprocessing pipeline."""

    def __init__(self, module: Any, test_pipeline: list[dict[str, Any]]) -> None:
        """`test_pipeline` is mmdet's; its first step, which loads a file, is replaced."""
        _, *steps = test_pipeline
        self._module = module
        self._pipeline = Compose([{"type": "LoadImageFromWebcam"}, *steps])
        self.classes: tuple[str, ...] = tuple(module.CLASSES)

    def detect(self, image_HW3: NDArray[Any]) -> ImageDetections:
        """Detect objects in an RGB image, uint8, (H, W, 3)."""
        sample = self._pipeline({"img": np.ascontiguousarray(image_HW3[..., ::-1])})
        device = next(self._module.parameters()).device
        with torch.inference_mode():
            batch = to_device(HostBatch.from_samples([sample]), device)
            (detections,) = self._module(return_loss=False, rescale=True, **batch)
        return to_image_detections(detections)


def to_image_detections(detections: Detections) -> ImageDetections:
    """Merge mmdet's boxes by class into one list, by descending score."""
    rows = np.concatenate(detections)
    labels = np.repeat(
        np.arange(len(detections)), [len(class_detections) for class_detections in detections]
    )
    order = np.argsort(-rows[:, 4], kind="stable")
    return ImageDetections(rows[order, :4], rows[order, 4], labels[order])
