"""Synthetic datasets with crowds, sizes and empty images, and detections in them."""

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import build_dataset

from workers.evaluation.detection import Detections

CLASSES = ("cat", "dog", "owl")
_CATEGORIES = {"cat": 4, "dog": 7, "owl": 9}
_SIDE = 400


@dataclass(frozen=True)
class SceneObject:
    """A ground-truth object; its box is left, top, right, bottom in pixels."""

    image: int
    name: str
    box: tuple[float, float, float, float]
    crowd: bool = False


def write_dataset(path: Path, scene_objects: Sequence[SceneObject], *, images: int) -> Any:
    """Write an mmdet CocoDataset of images that do not exist, named `0.png` and so on."""
    document = {
        "images": [
            {"id": 100 + number, "file_name": f"{number}.png", "width": _SIDE, "height": _SIDE}
            for number in range(images)
        ],
        "annotations": [
            _annotation(1 + index, scene_object) for index, scene_object in enumerate(scene_objects)
        ],
        "categories": [
            {"id": identifier, "name": name} for name, identifier in _CATEGORIES.items()
        ],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    config = {"type": "CocoDataset", "ann_file": str(path), "pipeline": [], "test_mode": True}
    with contextlib.redirect_stdout(io.StringIO()):
        return build_dataset(config | {"classes": CLASSES})


def to_mmdet_detections(
    detections: Sequence[tuple[int, str, tuple[float, float, float, float], float]], *, images: int
) -> list[Detections]:
    """Convert tuples of image, class, box and score to mmdet's lists by image and class."""
    rows: list[list[list[list[float]]]] = [[[] for _ in CLASSES] for _ in range(images)]
    for image, name, box, score in detections:
        rows[image][CLASSES.index(name)].append([*box, score])
    return [
        [np.array(class_rows, dtype=np.float32).reshape(-1, 5) for class_rows in image_rows]
        for image_rows in rows
    ]


def random_objects(images: int, *, seed: int = 0) -> list[SceneObject]:
    """Draw objects of all sizes, some of them crowds; some images have none."""
    rng = np.random.default_rng(seed)
    scene_objects = []
    for image in range(images):
        for _ in range(rng.integers(0, 6)):
            x1, y1 = rng.uniform(0, 200, 2)
            width, height = rng.choice([20, 60, 150]) * rng.uniform(0.6, 1.4, 2)
            box = (x1, y1, x1 + width, y1 + height)
            name = CLASSES[rng.choice(3, p=[0.6, 0.3, 0.1])]
            scene_objects.append(SceneObject(image, name, box, crowd=bool(rng.random() < 0.1)))
    return scene_objects


def random_detections(
    scene_objects: Sequence[SceneObject],
    *,
    images: int,
    noise: float,
    seed: int = 0,
    ties: bool = False,
) -> list[Detections]:
    """Draw detections: shifted, duplicate, wrong, missing and false ones."""
    rng = np.random.default_rng(seed)
    detections: list[Any] = []
    for scene_object in scene_objects:
        for _ in range(rng.choice(3, p=[0.2, 0.6, 0.2])):
            shifted = np.array(scene_object.box) + rng.normal(0, noise, 4)
            name = scene_object.name if rng.random() < 0.8 else str(rng.choice(CLASSES))
            detections.append((scene_object.image, name, tuple(shifted), rng.uniform(0.2, 1.0)))
    for _ in range(2 * images):
        x1, y1, width, height = rng.uniform(5, 150, 4)
        box = (x1, y1, x1 + width, y1 + height)
        image, name = int(rng.integers(images)), str(rng.choice(CLASSES))
        detections.append((image, name, box, rng.uniform(0.0, 0.7)))
    if ties:
        detections = [(image, name, box, round(score, 1)) for image, name, box, score in detections]
    return to_mmdet_detections(detections, images=images)


def _annotation(identifier: int, scene_object: SceneObject) -> dict[str, Any]:
    x1, y1, x2, y2 = scene_object.box
    return {
        "id": identifier,
        "image_id": 100 + scene_object.image,
        "category_id": _CATEGORIES[scene_object.name],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(scene_object.crowd),
    }
