"""A detector as mmdet runs it: what every exported file is compared with."""

from typing import Any

import numpy as np
import torch
from mmdet.datasets.pipelines import Compose

from workers.data.batches import HostBatch, to_device
from workers.evaluation.coco import Detections
from workers.export.tandem_runtime import Array, ImageDetections


class MmdetDetector:
    """An mmdet model with the pipeline that its images go through."""

    def __init__(self, module: Any, test_pipeline: list[dict[str, Any]]) -> None:
        """`test_pipeline`: mmdet's, from an image file on."""
        _, *steps = test_pipeline
        self._module = module
        self._pipeline = Compose([{"type": "LoadImageFromWebcam"}, *steps])
        self.classes: tuple[str, ...] = tuple(module.CLASSES)

    def detect(self, image_HW3: Array) -> ImageDetections:
        """What is in an RGB image of bytes."""
        sample = self._pipeline({"img": np.ascontiguousarray(image_HW3[..., ::-1])})
        device = next(self._module.parameters()).device
        with torch.inference_mode():
            batch = to_device(HostBatch.from_samples([sample]), device)
            (found,) = self._module(return_loss=False, rescale=True, **batch)
        return to_image_detections(found)


def to_image_detections(detections: Detections) -> ImageDetections:
    """mmdet's boxes by class as one list, the most confident first."""
    rows = np.concatenate(detections)
    labels = np.repeat(np.arange(len(detections)), [len(of_class) for of_class in detections])
    order = np.argsort(-rows[:, 4], kind="stable")
    return ImageDetections(rows[order, :4], rows[order, 4], labels[order])
