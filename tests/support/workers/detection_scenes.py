"""Made datasets with all that COCO knows (crowds, sizes, empty images), and detections in them."""

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import build_dataset

from workers.evaluation.coco import Detections

CLASSES = ("cat", "dog", "owl")
_CATEGORIES = {"cat": 4, "dog": 7, "owl": 9}
_SIDE = 400


@dataclass(frozen=True)
class Thing:
    """A true object; left, top, right, bottom in pixels."""

    image: int
    name: str
    box: tuple[float, float, float, float]
    crowd: bool = False


def write_dataset(path: Path, things: Sequence[Thing], *, images: int) -> Any:
    """An mmdet CocoDataset of images that are not there, called `0.png` and so on."""
    document = {
        "images": [
            {"id": 100 + number, "file_name": f"{number}.png", "width": _SIDE, "height": _SIDE}
            for number in range(images)
        ],
        "annotations": [_annotation(1 + at, thing) for at, thing in enumerate(things)],
        "categories": [
            {"id": identifier, "name": name} for name, identifier in _CATEGORIES.items()
        ],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    config = {"type": "CocoDataset", "ann_file": str(path), "pipeline": [], "test_mode": True}
    with contextlib.redirect_stdout(io.StringIO()):
        return build_dataset(config | {"classes": CLASSES})


def detections_of(
    found: Sequence[tuple[int, str, tuple[float, float, float, float], float]], *, images: int
) -> list[Detections]:
    """As mmdet hands them out; each is image, class, box and score."""
    rows: list[list[list[list[float]]]] = [[[] for _ in CLASSES] for _ in range(images)]
    for image, name, box, score in found:
        rows[image][CLASSES.index(name)].append([*box, score])
    return [
        [np.array(of_class, dtype=np.float32).reshape(-1, 5) for of_class in of_image]
        for of_image in rows
    ]


def random_things(images: int, *, seed: int = 0) -> list[Thing]:
    """Of all sizes, some of them crowds, and none in some images."""
    random = np.random.default_rng(seed)
    things = []
    for image in range(images):
        for _ in range(random.integers(0, 6)):
            left, top = random.uniform(0, 200, 2)
            width, height = random.choice([20, 60, 150]) * random.uniform(0.6, 1.4, 2)
            box = (left, top, left + width, top + height)
            name = CLASSES[random.choice(3, p=[0.6, 0.3, 0.1])]
            things.append(Thing(image, name, box, crowd=bool(random.random() < 0.1)))
    return things


def random_detections(
    things: Sequence[Thing], *, images: int, noise: float, seed: int = 0, ties: bool = False
) -> list[Detections]:
    """Most of the objects, some twice or of a wrong class, not quite in place; and false ones."""
    random = np.random.default_rng(seed)
    found: list[Any] = []
    for thing in things:
        for _ in range(random.choice(3, p=[0.2, 0.6, 0.2])):
            moved = np.array(thing.box) + random.normal(0, noise, 4)
            name = thing.name if random.random() < 0.8 else str(random.choice(CLASSES))
            found.append((thing.image, name, tuple(moved), random.uniform(0.2, 1.0)))
    for _ in range(2 * images):
        left, top, width, height = random.uniform(5, 150, 4)
        box = (left, top, left + width, top + height)
        image, name = int(random.integers(images)), str(random.choice(CLASSES))
        found.append((image, name, box, random.uniform(0.0, 0.7)))
    if ties:
        found = [(image, name, box, round(score, 1)) for image, name, box, score in found]
    return detections_of(found, images=images)


def _annotation(identifier: int, thing: Thing) -> dict[str, Any]:
    left, top, right, bottom = thing.box
    return {
        "id": identifier,
        "image_id": 100 + thing.image,
        "category_id": _CATEGORIES[thing.name],
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
        "iscrowd": int(thing.crowd),
    }
