"""A detector as mmdet runs it: what every exported file is compared with."""

from typing import Any

import numpy as np
import torch
from mmdet.datasets.pipelines import Compose

from workers.data.batches import HostBatch, place
from workers.evaluation.coco import Detections
from workers.export.tandem_runtime import Array, Found


class MmdetDetector:
    """An mmdet model with the pipeline that its images go through."""

    def __init__(self, module: Any, test_pipeline: list[dict[str, Any]]) -> None:
        """`test_pipeline`: mmdet's, from an image file on."""
        _, *steps = test_pipeline
        self._module = module
        self._pipeline = Compose([{"type": "LoadImageFromWebcam"}, *steps])
        self.classes: tuple[str, ...] = tuple(module.CLASSES)

    def detect(self, image_HW3: Array) -> Found:
        """What is in an RGB image of bytes."""
        sample = self._pipeline({"img": np.ascontiguousarray(image_HW3[..., ::-1])})
        device = next(self._module.parameters()).device
        with torch.inference_mode():
            batch = place(HostBatch.from_samples([sample]), device)
            (found,) = self._module(return_loss=False, rescale=True, **batch)
        return found_from(found)


def found_from(detections: Detections) -> Found:
    """mmdet's boxes by class as one list, the most confident first."""
    rows = np.concatenate(detections)
    labels = np.repeat(np.arange(len(detections)), [len(of_class) for of_class in detections])
    order = np.argsort(-rows[:, 4], kind="stable")
    return Found(rows[order, :4], rows[order, 4], labels[order])
