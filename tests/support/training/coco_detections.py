"""Detections near the ground truth of a COCO dataset."""

from typing import Any

import numpy as np

from workers.data.digits import CLASSES
from workers.evaluation.coco import Detections


def detections_near_the_truth(dataset: Any, *, shift: float) -> list[Detections]:
    random = np.random.default_rng(0)
    detections = []
    for index in range(len(dataset)):
        truth = dataset.get_ann_info(index)
        of_image: Detections = [np.zeros((0, 5), dtype=np.float32) for _ in CLASSES]
        for box, label in zip(truth["bboxes"], truth["labels"], strict=True):
            moved = box + random.normal(0, shift, 4)
            row = np.append(moved, random.uniform(0.3, 1.0))[None].astype(np.float32)
            of_image[label] = np.concatenate([of_image[label], row])
        detections.append(of_image)
    return detections
