"""A real-input detection set without a download: handwritten digits on photographs.

The digits are the 1,797 that scikit-learn ships (UCI optdigits: written by 43 people, 8 x 8 pixels), the
backgrounds are crops of the two photographs that it ships. Training and validation images share neither
a digit nor a part of a photograph. Every image has a random generator of its own, so the first images of
a larger set are the images of a smaller one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_digits, load_sample_images

from workers.data.manifest import Coco

CLASSES = tuple("0123456789")
LICENCE = "Digits: UCI optdigits, CC BY 4.0. Photographs: CC BY 2.0 (see scikit-learn's sample images)."

_VALIDATION_SHARE = 0.2
_LARGEST_TILT_DEGREES = 12.0
_LEAST_CONTRAST = 70.0
_INK_FOR_BOX = 0.25
_MOST_COVERED = 0.15
_PLACING_TRIES = 20
_EMPTY_IMAGE_SHARE = 0.02
_PARTS = {"train": 0, "val": 1}

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class DigitsRecipe:
    """What makes a digits set what it is; equal recipes give equal bytes."""

    train: int = 4000
    val: int = 500
    image_size: int = 160
    smallest: int = 14
    largest: int = 72
    most_objects: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Material:
    """Digits (K, 8, 8) in [0, 1] with their labels, and the photographs they are put on."""

    digits: Array
    labels: Array
    photographs: tuple[Array, ...]


@dataclass(frozen=True)
class Drawn:
    """One object of an image: class, and the tight box around its ink as left, top, width, height."""

    label: int
    box: tuple[int, int, int, int]


def draw_part(
    root: Path, part: str, recipe: DigitsRecipe, *, on_image: Callable[[], None] = lambda: None
) -> Coco:
    """Write the images of `train` or `val` under `root` and return their COCO document."""
    material = material_of(part)
    folder = root / "images" / part
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(getattr(recipe, part)):
        picture, drawn = draw_image(material, recipe, part=part, index=index)
        file_name = f"{index:06d}.png"
        cv2.imwrite(str(folder / file_name), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        size = recipe.image_size
        images.append({"id": index + 1, "file_name": file_name, "width": size, "height": size})
        annotations += [_annotation(object_, image_id=index + 1) for object_ in drawn]
        on_image()
    for identifier, annotation in enumerate(annotations, start=1):
        annotation["id"] = identifier
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def material_of(part: str) -> Material:
    """The digits and the regions of the photographs that belong to `part`."""
    digits = load_digits()
    chosen = _digits_of(part, digits.target)
    photographs = tuple(_region_of(part, image) for image in load_sample_images().images)
    return Material((digits.images[chosen] / 16.0).astype(np.float32), digits.target[chosen], photographs)


def draw_image(
    material: Material, recipe: DigitsRecipe, *, part: str, index: int
) -> tuple[Array, list[Drawn]]:
    """Image `index` of a part, (H, W, 3) RGB, and its objects."""
    random = np.random.default_rng((recipe.seed, _PARTS[part], index))
    picture = _background(material, recipe, random)
    covered = np.zeros(picture.shape[:2], dtype=bool)
    drawn: list[Drawn] = []
    if random.random() >= _EMPTY_IMAGE_SHARE:
        for _ in range(random.integers(1, recipe.most_objects + 1)):
            object_ = _draw_digit(picture, covered, material, recipe, random)
            if object_ is not None:
                drawn.append(object_)
    return np.clip(picture, 0, 255).astype(np.uint8), drawn


def _digits_of(part: str, labels: Array) -> Array:
    chosen: list[int] = []
    for label in range(len(CLASSES)):
        of_class = np.flatnonzero(labels == label)
        cut = round(len(of_class) * _VALIDATION_SHARE)
        chosen += list(of_class[:cut] if part == "val" else of_class[cut:])
    return np.sort(np.asarray(chosen))


def _region_of(part: str, photograph: Array) -> Array:
    cut = round(photograph.shape[1] * (1.0 - 2 * _VALIDATION_SHARE))
    return photograph[:, cut:] if part == "val" else photograph[:, :cut]


def _background(material: Material, recipe: DigitsRecipe, random: np.random.Generator) -> Array:
    photograph = material.photographs[random.integers(len(material.photographs))]
    height, width = photograph.shape[:2]
    side = int(random.integers(96, min(height, width) + 1))
    top = int(random.integers(0, height - side + 1))
    left = int(random.integers(0, width - side + 1))
    crop = photograph[top : top + side, left : left + side]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    size = (recipe.image_size, recipe.image_size)
    return cv2.resize(np.ascontiguousarray(crop), size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _draw_digit(
    picture: Array,
    covered: Array,
    material: Material,
    recipe: DigitsRecipe,
    random: np.random.Generator,
) -> Drawn | None:
    which = int(random.integers(len(material.labels)))
    size = round(float(np.exp(random.uniform(np.log(recipe.smallest), np.log(recipe.largest)))))
    ink = _ink(material.digits[which], size, random)
    height, width = ink.shape
    for _ in range(_PLACING_TRIES):
        top = int(random.integers(0, picture.shape[0] - height + 1))
        left = int(random.integers(0, picture.shape[1] - width + 1))
        window = np.s_[top : top + height, left : left + width]
        if covered[window].mean() <= _MOST_COVERED:
            break
    else:
        return None
    _paint(picture[window], ink, random)
    covered[window] = True
    return Drawn(int(material.labels[which]), (left, top, width, height))


def _ink(digit: Array, size: int, random: np.random.Generator) -> Array:
    """The digit at `size` pixels, tilted, as opacity in [0, 1], cut to its visible ink."""
    large = cv2.resize(np.pad(digit, 2), (size * 12 // 8, size * 12 // 8), interpolation=cv2.INTER_CUBIC)
    centre = (large.shape[1] / 2, large.shape[0] / 2)
    tilt = random.uniform(-_LARGEST_TILT_DEGREES, _LARGEST_TILT_DEGREES)
    turn = cv2.getRotationMatrix2D(centre, tilt, 1.0)
    turned = np.clip(cv2.warpAffine(large, turn, large.shape[::-1], flags=cv2.INTER_LINEAR), 0, 1)
    rows = np.flatnonzero((turned > _INK_FOR_BOX).any(axis=1))
    columns = np.flatnonzero((turned > _INK_FOR_BOX).any(axis=0))
    return turned[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _paint(window: Array, ink: Array, random: np.random.Generator) -> None:
    """Put ink on `window` in a colour that is seen against what is there."""
    ground = window.mean(axis=(0, 1))
    colour = random.uniform(0, 255, 3)
    away = 1.0 if ground.mean() < 128 else -1.0
    lack = _LEAST_CONTRAST - away * (colour.mean() - ground.mean())
    if lack > 0:
        colour = np.clip(colour + away * lack, 0, 255)
    opacity = (ink * random.uniform(0.75, 1.0))[..., None]
    window[:] = window * (1 - opacity) + colour * opacity


def _annotation(object_: Drawn, *, image_id: int) -> Coco:
    _, _, width, height = object_.box
    return {
        "id": 0,
        "image_id": image_id,
        "category_id": object_.label + 1,
        "bbox": list(object_.box),
        "area": width * height,
        "iscrowd": 0,
    }
