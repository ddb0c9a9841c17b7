"""A real-input detection set without a download: handwritten digits on photographs.

The digits are the 1,797 that scikit-learn ships (UCI optdigits: written by 43 people, 8 x 8
pixels), the backgrounds are crops of the two photographs that it ships. Training and validation
images share neither a digit nor a part of a photograph. Every image has a random generator of its
own, so the first images of a larger set are the images of a smaller one.

The teacher in configs/teachers was trained on these very pictures: whoever changes what is drawn
here counts `_GENERATOR` up, trains and makes that teacher again, and says so in CHANGELOG.md.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from workers.data.manifest import (
    CocoBox,
    CocoCategory,
    CocoDocument,
    CocoImage,
    SplitContents,
    SplitName,
)
from workers.errors import DatasetError

CLASSES = tuple("0123456789")
LICENSE = (
    "Digits: UCI optdigits, CC BY 4.0. Photographs: CC BY 2.0 (see scikit-learn's sample images)."
)

_GENERATOR = 1
"""Counts changes of what is drawn: with another number the same recipe gives another set."""

_VALIDATION_SHARE = 0.2
_LARGEST_TILT_DEGREES = 12.0
_LEAST_CONTRAST = 70.0
_INK_FOR_BOX = 0.25
_MOST_COVERED = 0.15
_PLACES_TRIED = 20
_SMALLEST_CROP = 96
_CELLS = 8
_ROOM = 1.5
"""How many times its size the square has that a digit is tilted in."""

_SEED_WORDS: dict[SplitName, int] = {"train": 0, "val": 1}
# Lossless, so that pictures do not depend on a codec's version; more effort saves little.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class DigitsRecipe:
    """What makes a digits set what it is; equal recipes give equal pictures."""

    train: int = 4000
    val: int = 500
    image_size: int = 160
    smallest: int = 14
    """Of a digit's side before it is cut to its ink, in pixels."""

    largest: int = 72
    most_objects: int = 8
    empty_share: float = 0.02
    """Part of the images that show no digit."""

    seed: int = 0

    def __post_init__(self) -> None:
        if not _CELLS <= self.smallest <= self.largest:
            raise ValueError(
                f"the smallest digit ({self.smallest} pixels) must have {_CELLS} pixels at least, "
                f"and not more than the largest ({self.largest})"
            )
        if self.largest * _ROOM > self.image_size:
            raise ValueError(
                f"digits of {self.largest} pixels do not fit an image of {self.image_size}; "
                f"the largest may have {int(self.image_size / _ROOM)}"
            )

    def __str__(self) -> str:
        asked = ", ".join(f"{name} {value}" for name, value in asdict(self).items())
        return f"tandem-worker data digits, generator {_GENERATOR}: {asked}"


@dataclass(frozen=True)
class DigitSources:
    """Digits (K, 8, 8) in [0, 1] with labels, and photographs (H, W, 3) to put them on."""

    digits: Array
    labels: Array
    photographs: tuple[Array, ...]


@dataclass(frozen=True)
class DrawnDigit:
    """One object: its class, and the tight box around its ink as left, top, width, height."""

    label: int
    box: tuple[int, int, int, int]


def draw_split(
    root: Path,
    part: SplitName,
    recipe: DigitsRecipe,
    *,
    on_image: Callable[[], None] = lambda: None,
) -> SplitContents:
    """Write the images of one part under `root`."""
    material = load_sources(part)
    folder = root / "images" / part
    folder.mkdir(parents=True, exist_ok=True)
    count = recipe.train if part == "train" else recipe.val
    images: list[CocoImage] = []
    boxes: list[CocoBox] = []
    hashes: list[str] = []
    for index in range(count):
        picture, drawn = draw_image(material, recipe, split=part, index=index)
        content = cv2.imencode(".png", picture[..., ::-1], _PNG)[1].tobytes()
        image = _listed(index, size=recipe.image_size)
        (folder / image["file_name"]).write_bytes(content)
        images.append(image)
        hashes.append(hashlib.sha256(content).hexdigest())
        boxes += _annotations(drawn, image_id=image["id"], first_id=len(boxes) + 1)
        on_image()
    if not boxes:
        raise DatasetError(f"None of {count} images for {part} shows a digit; ask for more.")
    categories: list[CocoCategory] = [
        {"id": label, "name": name} for label, name in enumerate(CLASSES, start=1)
    ]
    document = CocoDocument(images=images, annotations=boxes, categories=categories)
    return SplitContents(document, tuple(hashes))


def load_sources(part: SplitName) -> DigitSources:
    """The digits and the regions of the photographs that belong to `part`."""
    from sklearn.datasets import load_digits, load_sample_images  # noqa: PLC0415 - takes seconds

    digits = load_digits()
    chosen = select_digits(part, digits.target)
    photographs = tuple(_region_of(part, image) for image in load_sample_images().images)
    return DigitSources(
        (digits.images[chosen] / 16.0).astype(np.float32), digits.target[chosen], photographs
    )


def select_digits(part: SplitName, labels: Array) -> Array:
    """Which digits belong to `part`: of every class the first fifth is for validation."""
    chosen: list[int] = []
    for label in range(len(CLASSES)):
        of_class = np.flatnonzero(labels == label)
        cut = round(len(of_class) * _VALIDATION_SHARE)
        chosen += list(of_class[:cut] if part == "val" else of_class[cut:])
    return np.sort(np.asarray(chosen))


def draw_image(
    material: DigitSources, recipe: DigitsRecipe, *, split: SplitName, index: int
) -> tuple[Array, tuple[DrawnDigit, ...]]:
    """Image `index` of a part, (H, W, 3) in RGB, and its objects."""
    random = np.random.default_rng((recipe.seed, _SEED_WORDS[split], index))
    picture = _background(material, recipe, random)
    covered = np.zeros(picture.shape[:2], dtype=bool)
    drawn: list[DrawnDigit] = []
    if random.random() >= recipe.empty_share:
        for _ in range(random.integers(1, recipe.most_objects + 1)):
            object_ = _draw_digit(picture, covered, material, recipe, random)
            if object_ is not None:
                drawn.append(object_)
    return np.clip(picture, 0, 255).astype(np.uint8), tuple(drawn)


def _region_of(part: SplitName, photograph: Array) -> Array:
    cut = round(photograph.shape[1] * (1.0 - 2 * _VALIDATION_SHARE))
    return photograph[:, cut:] if part == "val" else photograph[:, :cut]


def _background(material: DigitSources, recipe: DigitsRecipe, random: np.random.Generator) -> Array:
    photograph = material.photographs[random.integers(len(material.photographs))]
    height, width = photograph.shape[:2]
    side = int(random.integers(_SMALLEST_CROP, min(height, width) + 1))
    top = int(random.integers(0, height - side + 1))
    left = int(random.integers(0, width - side + 1))
    crop = photograph[top : top + side, left : left + side]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    size = (recipe.image_size, recipe.image_size)
    resized = cv2.resize(np.ascontiguousarray(crop), size, interpolation=cv2.INTER_AREA)
    return resized.astype(np.float32)


def _draw_digit(
    picture: Array,
    covered: Array,
    material: DigitSources,
    recipe: DigitsRecipe,
    random: np.random.Generator,
) -> DrawnDigit | None:
    which = int(random.integers(len(material.labels)))
    # Every scale is as frequent as any other.
    size = round(float(np.exp(random.uniform(np.log(recipe.smallest), np.log(recipe.largest)))))
    ink = _ink(material.digits[which], size, random)
    height, width = ink.shape
    for _ in range(_PLACES_TRIED):
        top = int(random.integers(0, picture.shape[0] - height + 1))
        left = int(random.integers(0, picture.shape[1] - width + 1))
        window = np.s_[top : top + height, left : left + width]
        if covered[window].mean() <= _MOST_COVERED:
            _paint(picture[window], ink, random)
            covered[window] = True
            return DrawnDigit(int(material.labels[which]), (left, top, width, height))
    return None


def _ink(digit: Array, size: int, random: np.random.Generator) -> Array:
    """The digit at `size` pixels, tilted, as opacity in [0, 1], cut to its visible ink."""
    side = size * 12 // 8
    large = cv2.resize(np.pad(digit, 2), (side, side), interpolation=cv2.INTER_CUBIC)
    tilt = random.uniform(-_LARGEST_TILT_DEGREES, _LARGEST_TILT_DEGREES)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), tilt, 1.0)
    turned = np.clip(cv2.warpAffine(large, turn, (side, side), flags=cv2.INTER_LINEAR), 0, 1)
    rows = np.flatnonzero((turned > _INK_FOR_BOX).any(axis=1))
    columns = np.flatnonzero((turned > _INK_FOR_BOX).any(axis=0))
    cut: Array = turned[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cut


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


def _listed(index: int, *, size: int) -> CocoImage:
    return {"id": index + 1, "file_name": f"{index:06d}.png", "width": size, "height": size}


def _annotations(drawn: tuple[DrawnDigit, ...], *, image_id: int, first_id: int) -> list[CocoBox]:
    return [
        {
            "id": identifier,
            "image_id": image_id,
            "category_id": object_.label + 1,
            "bbox": [float(edge) for edge in object_.box],
            "area": float(object_.box[2] * object_.box[3]),
            "iscrowd": 0,
        }
        for identifier, object_ in enumerate(drawn, start=first_id)
    ]
