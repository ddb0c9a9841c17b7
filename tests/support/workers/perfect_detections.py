"""Detections equal to the truth show that no image is lost between file and score."""

import contextlib
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from workers.data.datasets import open_dataset
from workers.data.manifest import read_manifest
from workers.evaluation.coco import CocoMetrics, compute_metrics
from workers.evaluation.detection import Detections


def open_validation(root: Path) -> Any:
    """Open the validation images of an imported dataset, as an evaluation does."""
    manifest = read_manifest(root)
    with contextlib.redirect_stdout(io.StringIO()):
        return open_dataset(
            {
                "type": "CocoDataset",
                "ann_file": str(root / manifest.val.annotations),
                "img_prefix": str(root / manifest.val.images),
                "classes": manifest.classes,
                "pipeline": [{"type": "LoadImageFromFile"}],
                "test_mode": True,
            }
        )


def score_truth(dataset: Any, images: set[int]) -> CocoMetrics:
    """The metrics of detections that equal the truth on these images, and of none elsewhere."""
    return compute_metrics([_copy_truth(dataset, i, images) for i in range(len(dataset))], dataset)


def score_truth_plainly(dataset: Any, images: set[int]) -> float:
    """The same mAP by pycocotools alone, with images that are counted from 1."""
    numbers = itertools.count(1)
    infos = dataset.data_infos
    boxes = [
        {**annotation, "id": next(numbers), "image_id": position + 1, "position": position}
        for position, info in enumerate(infos)
        for annotation in dataset.coco.imgToAnns[info["id"]]
    ]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": position + 1} for position in range(len(infos))],
        "annotations": boxes,
        "categories": dataset.coco.dataset["categories"],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        detections = [
            {key: box[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0}
            for box in boxes
            if box["position"] in images and not box["iscrowd"]
        ]
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def _copy_truth(dataset: Any, index: int, images: set[int]) -> Detections:
    truth = dataset.get_ann_info(index)
    rows_N5 = np.hstack([truth["bboxes"], np.ones((len(truth["bboxes"]), 1))]).astype(np.float32)
    is_detected = index in images
    return [
        rows_N5[(truth["labels"] == label) & is_detected] for label in range(len(dataset.CLASSES))
    ]
