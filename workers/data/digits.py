"""Generates a detection dataset without a download: handwritten digits on photographs.

The digits are the 1,797 of scikit-learn (UCI optdigits: written by 43 people, 8 x 8 pixels), the
backgrounds are crops of its two photographs. Training and validation images share neither a digit
nor a region of a photograph. Every image has a random generator of its own, so the first images of
a larger dataset are the images of a smaller one.

The teacher in configs/teachers was trained on these images. A change of the drawn images requires
a new `_GENERATOR`, a new training of that teacher, and an entry in CHANGELOG.md.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

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
"""Version of the drawing code: another version draws other images from the same recipe."""

_VALIDATION_FRACTION = 0.2
_MAX_TILT_DEGREES = 12.0
_MIN_CONTRAST = 70.0
_MIN_BOX_OPACITY = 0.25
_MAX_OVERLAP_FRACTION = 0.15
_MAX_PLACEMENT_ATTEMPTS = 20
_MIN_CROP_PX = 96
_CELLS = 8
_TILT_MARGIN = 1.5
"""Side of the square in which a digit is rotated, as a multiple of the digit's size."""

_SPLIT_SEEDS: dict[SplitName, int] = {"train": 0, "val": 1}
# Lossless, so that images do not depend on the codec's version; a higher level saves little.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclass(frozen=True)
class DigitsRecipe:
    """Parameters of a generated digits dataset; equal recipes give equal images."""

    train: int = 4000
    val: int = 500
    image_size: int = 160
    smallest: int = 14
    """Side of the smallest digit in pixels, before it is cropped to its ink."""

    largest: int = 72
    most_objects: int = 8
    empty_share: float = 0.02
    """Fraction of the images without a digit."""

    seed: int = 0

    def __post_init__(self) -> None:
        if not _CELLS <= self.smallest <= self.largest:
            raise ValueError(
                f"the smallest digit ({self.smallest} pixels) must have at least {_CELLS} pixels, "
                f"and not more than the largest ({self.largest})"
            )
        if self.largest * _TILT_MARGIN > self.image_size:
            raise ValueError(
                f"digits of {self.largest} pixels do not fit an image of {self.image_size}; "
                f"the largest may have {int(self.image_size / _TILT_MARGIN)}"
            )

    def __str__(self) -> str:
        values = ", ".join(f"{name} {value}" for name, value in asdict(self).items())
        return f"tandem-worker data digits, generator {_GENERATOR}: {values}"


@dataclass(frozen=True)
class DigitSources:
    """Digits (K, 8, 8) in [0, 1] with labels, and photographs (H, W, 3) as backgrounds."""

    digits: NDArray[Any]
    labels: NDArray[Any]
    photographs: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class DrawnDigit:
    """A digit in an image: its class, and its tight box as left, top, width, height in pixels."""

    label: int
    box: tuple[int, int, int, int]


def draw_split(
    root: Path,
    split: SplitName,
    recipe: DigitsRecipe,
    *,
    on_image: Callable[[], None] = lambda: None,
) -> SplitContents:
    """Write the images of one split under `root`; `on_image` is called after each one."""
    sources = load_sources(split)
    folder = root / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    count = recipe.train if split == "train" else recipe.val
    images: list[CocoImage] = []
    boxes: list[CocoBox] = []
    hashes: list[str] = []
    for index in range(count):
        image, digits = draw_image(sources, recipe, split=split, index=index)
        content = cv2.imencode(".png", image[..., ::-1], _PNG)[1].tobytes()
        entry = _image_entry(index, size=recipe.image_size)
        (folder / entry["file_name"]).write_bytes(content)
        images.append(entry)
        hashes.append(hashlib.sha256(content).hexdigest())
        boxes += _annotation_entries(digits, image_id=entry["id"], first_id=len(boxes) + 1)
        on_image()
    if not boxes:
        raise DatasetError(
            f"None of the {count} images of {split} contains a digit; request more images."
        )
    categories: list[CocoCategory] = [
        {"id": label, "name": name} for label, name in enumerate(CLASSES, start=1)
    ]
    document = CocoDocument(images=images, annotations=boxes, categories=categories)
    return SplitContents(document, tuple(hashes))


def load_sources(split: SplitName) -> DigitSources:
    """Load the digits and crop the photographs that belong to `split`."""
    from sklearn.datasets import load_digits, load_sample_images  # noqa: PLC0415 - takes seconds

    digits = load_digits()
    selected = select_digits(split, digits.target)
    photographs = tuple(_crop_photograph(split, image) for image in load_sample_images().images)
    return DigitSources(
        (digits.images[selected] / 16.0).astype(np.float32), digits.target[selected], photographs
    )


def select_digits(split: SplitName, labels: NDArray[Any]) -> NDArray[Any]:
    """Indices of the digits that belong to `split`: of each class, val has the first fifth."""
    selected: list[int] = []
    for label in range(len(CLASSES)):
        indices = np.flatnonzero(labels == label)
        num_val = round(len(indices) * _VALIDATION_FRACTION)
        selected += list(indices[:num_val] if split == "val" else indices[num_val:])
    return np.sort(np.asarray(selected))


def draw_image(
    sources: DigitSources, recipe: DigitsRecipe, *, split: SplitName, index: int
) -> tuple[NDArray[Any], tuple[DrawnDigit, ...]]:
    """Draw image `index` of a split; returns it as (H, W, 3) uint8 in RGB, and its digits."""
    random = np.random.default_rng((recipe.seed, _SPLIT_SEEDS[split], index))
    image = _draw_background(sources, recipe, random)
    covered = np.zeros(image.shape[:2], dtype=bool)
    digits: list[DrawnDigit] = []
    if random.random() >= recipe.empty_share:
        for _ in range(random.integers(1, recipe.most_objects + 1)):
            digit = _draw_digit(image, covered, sources, recipe, random)
            if digit is not None:
                digits.append(digit)
    return np.clip(image, 0, 255).astype(np.uint8), tuple(digits)


def _crop_photograph(split: SplitName, photograph: NDArray[Any]) -> NDArray[Any]:
    """The part of a photograph that belongs to `split`; the splits share no pixel."""
    x_split = round(photograph.shape[1] * (1.0 - 2 * _VALIDATION_FRACTION))
    return photograph[:, x_split:] if split == "val" else photograph[:, :x_split]


def _draw_background(
    sources: DigitSources, recipe: DigitsRecipe, random: np.random.Generator
) -> NDArray[Any]:
    photograph = sources.photographs[random.integers(len(sources.photographs))]
    height, width = photograph.shape[:2]
    side = int(random.integers(_MIN_CROP_PX, min(height, width) + 1))
    y = int(random.integers(0, height - side + 1))
    x = int(random.integers(0, width - side + 1))
    crop = photograph[y : y + side, x : x + side]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    size = (recipe.image_size, recipe.image_size)
    resized = cv2.resize(np.ascontiguousarray(crop), size, interpolation=cv2.INTER_AREA)
    return resized.astype(np.float32)


def _draw_digit(
    image: NDArray[Any],
    covered: NDArray[Any],
    sources: DigitSources,
    recipe: DigitsRecipe,
    random: np.random.Generator,
) -> DrawnDigit | None:
    """Draw a random digit into `image` and mark it in `covered`; None if no position is free."""
    index = int(random.integers(len(sources.labels)))
    # Uniform in the logarithm of the size.
    size = round(float(np.exp(random.uniform(np.log(recipe.smallest), np.log(recipe.largest)))))
    ink = _render_ink(sources.digits[index], size, random)
    height, width = ink.shape
    for _ in range(_MAX_PLACEMENT_ATTEMPTS):
        y = int(random.integers(0, image.shape[0] - height + 1))
        x = int(random.integers(0, image.shape[1] - width + 1))
        window = np.s_[y : y + height, x : x + width]
        if covered[window].mean() <= _MAX_OVERLAP_FRACTION:
            _blend_ink(image[window], ink, random)
            covered[window] = True
            return DrawnDigit(int(sources.labels[index]), (x, y, width, height))
    return None


def _render_ink(digit: NDArray[Any], size: int, random: np.random.Generator) -> NDArray[Any]:
    """Scale and tilt a digit; returns its opacity in [0, 1], cropped to the visible ink."""
    side = size * 12 // 8
    large = cv2.resize(np.pad(digit, 2), (side, side), interpolation=cv2.INTER_CUBIC)
    tilt = random.uniform(-_MAX_TILT_DEGREES, _MAX_TILT_DEGREES)
    rotation = cv2.getRotationMatrix2D((side / 2, side / 2), tilt, 1.0)
    opacity = np.clip(cv2.warpAffine(large, rotation, (side, side), flags=cv2.INTER_LINEAR), 0, 1)
    rows = np.flatnonzero((opacity > _MIN_BOX_OPACITY).any(axis=1))
    columns = np.flatnonzero((opacity > _MIN_BOX_OPACITY).any(axis=0))
    cropped: NDArray[Any] = opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cropped


def _blend_ink(window: NDArray[Any], ink: NDArray[Any], random: np.random.Generator) -> None:
    """Blend ink into `window`, in place, in a color of at least `_MIN_CONTRAST` gray levels."""
    background = window.mean(axis=(0, 1))
    color = random.uniform(0, 255, 3)
    direction = 1.0 if background.mean() < 128 else -1.0
    missing_contrast = _MIN_CONTRAST - direction * (color.mean() - background.mean())
    if missing_contrast > 0:
        color = np.clip(color + direction * missing_contrast, 0, 255)
    opacity = (ink * random.uniform(0.75, 1.0))[..., None]
    window[:] = window * (1 - opacity) + color * opacity


def _image_entry(index: int, *, size: int) -> CocoImage:
    return {"id": index + 1, "file_name": f"{index:06d}.png", "width": size, "height": size}


def _annotation_entries(
    digits: tuple[DrawnDigit, ...], *, image_id: int, first_id: int
) -> list[CocoBox]:
    return [
        {
            "id": identifier,
            "image_id": image_id,
            "category_id": digit.label + 1,
            "bbox": [float(edge) for edge in digit.box],
            "area": float(digit.box[2] * digit.box[3]),
            "iscrowd": 0,
        }
        for identifier, digit in enumerate(digits, start=first_id)
    ]
