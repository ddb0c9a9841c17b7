"""Detections near the ground truth of a COCO dataset."""

from typing import Any

import numpy as np

from workers.data.digits import CLASSES
from workers.evaluation.detection import Detections


def perturb_ground_truth(dataset: Any, *, shift: float) -> list[Detections]:
    rng = np.random.default_rng(0)
    detections = []
    for index in range(len(dataset)):
        truth = dataset.get_ann_info(index)
        image_detections: Detections = [np.zeros((0, 5), dtype=np.float32) for _ in CLASSES]
        for box, label in zip(truth["bboxes"], truth["labels"], strict=True):
            shifted = box + rng.normal(0, shift, 4)
            row = np.append(shifted, rng.uniform(0.3, 1.0))[None].astype(np.float32)
            image_detections[label] = np.concatenate([image_detections[label], row])
        detections.append(image_detections)
    return detections
