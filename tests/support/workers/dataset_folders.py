"""Small valid datasets in VOC and COCO format on disk."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 30)
VOC_BOX = (5, 5, 20, 25)
COCO_BOX = [4, 4, 15, 20]


def write_image(path: Path, *, shade: int = 0, size: tuple[int, int] = SIZE, **saved: Any) -> Path:
    """Write a noise image; each shade has its own content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(shade).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **saved)
    return path


def voc_object(name: str = "cat", box: Iterable[object] = VOC_BOX, difficult: object = 0) -> str:
    """Format an object on four lines: object, name and difficult, box, end."""
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    bounds = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    return (
        f"<object>\n<name>{name}</name><difficult>{difficult}</difficult>\n"
        f"<bndbox>{bounds}</bndbox>\n</object>"
    )


def voc_xml(*objects: str, size: tuple[object, object] = SIZE) -> str:
    """`<filename>` is on line 2, `<size>` on line 3, objects begin on line 4."""
    head = (
        "<annotation>\n<filename>whatever.jpg</filename>\n"
        f"<size><width>{size[0]}</width><height>{size[1]}</height></size>\n"
    )
    return head + "\n".join(objects) + "\n</annotation>"


class VocFolder:
    """A VOC folder with training images a and b, and validation image c."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for shade, name in enumerate("abc"):
            self.add(name, voc_object(), shade=shade)
        self.write_list("train", "a", "b")
        self.write_list("val", "c")

    def add(self, name: str, *objects: str, shade: int = 0) -> None:
        write_image(self.image(name), shade=shade)
        self.annotate(name, voc_xml(*objects))

    def annotate(self, name: str, xml: str) -> None:
        path = self.xml(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(xml, encoding="utf-8")

    def write_list(self, image_set: str, *names: str) -> None:
        path = self.list_file(image_set)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n", encoding="utf-8")

    def image(self, name: str) -> Path:
        return self.root / "JPEGImages" / f"{name}.jpg"

    def xml(self, name: str) -> Path:
        return self.root / "Annotations" / f"{name}.xml"

    def list_file(self, image_set: str) -> Path:
        return self.root / "ImageSets" / "Main" / f"{image_set}.txt"


def coco_image(identifier: int, name: str, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    return {"id": identifier, "file_name": name, "width": size[0], "height": size[1]}


def coco_box(identifier: int, image_id: int, **changes: Any) -> dict[str, Any]:
    box = {"id": identifier, "image_id": image_id, "category_id": 7, "bbox": COCO_BOX}
    return box | {"area": 150.5, "iscrowd": 0} | changes


class CocoFolder:
    """COCO files with training images 11 and 12, validation image 21, classes dog and cat."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for shade, name in enumerate(("train/a.png", "train/b.png", "val/c.png")):
            write_image(root / name, shade=shade)
        categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
        self.train: dict[str, Any] = {
            "images": [coco_image(11, "a.png"), coco_image(12, "b.png")],
            "annotations": [coco_box(0, 11), coco_box(1, 12)],
            "categories": categories,
        }
        self.val: dict[str, Any] = {
            "images": [coco_image(21, "c.png")],
            "annotations": [coco_box(0, 21)],
            "categories": list(categories),
        }

    @property
    def train_json(self) -> Path:
        return self.root / "train.json"

    @property
    def val_json(self) -> Path:
        return self.root / "val.json"

    def save(self) -> None:
        for path, document in ((self.train_json, self.train), (self.val_json, self.val)):
            path.write_text(json.dumps(document), encoding="utf-8")
