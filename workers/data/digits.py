"""A real-input detection set without a download: handwritten digits on photographs.

The digits are the 1,797 that scikit-learn ships (UCI optdigits: written by 43 people, 8 x 8
pixels), the backgrounds are crops of the two photographs that it ships. Training and validation
images share neither a digit nor a part of a photograph. Every image has a random generator of its
own, so the first images of a larger set are the images of a smaller one.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from workers.data.manifest import Coco, CocoBox, CocoCategory, CocoImage, Part, PartName

CLASSES = tuple("0123456789")
LICENCE = (
    "Digits: UCI optdigits, CC BY 4.0. Photographs: CC BY 2.0 (see scikit-learn's sample images)."
)

_GENERATOR = 2
"""Counts changes of what is drawn: with another number the same recipe gives another set."""

_VALIDATION_SHARE_OF_DIGITS = 0.2
_VALIDATION_SHARE_OF_PHOTOGRAPHS = 0.4
_CROP_SIDES = (96, 240)
_CELLS = 8
_MARGIN_CELLS = 2
_LARGEST_TILT_DEGREES = 10.0
_TILTED = 1.25
"""How many times its size a tilted digit may take, with room to spare."""
_INK_FROM, _INK_FULL = 0.3, 0.65
_VISIBLE_INK = 0.25
_LEAST_CONTRAST = 80.0
_MOST_COVERED = 0.15
_PLACES_TRIED = 20
_LUMA = np.array([0.299, 0.587, 0.114])
# Chroma at full resolution: a digit of 14 pixels has strokes of 2.
_JPEG = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
_SEED_WORDS: dict[PartName, int] = {"train": 0, "val": 1}

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class DigitsRecipe:
    """What makes a digits set what it is; equal recipes give equal bytes."""

    train: int = 4000
    val: int = 500
    image_size: int = 160
    smallest: int = 14
    """Of the longer side of a digit's box, in pixels; tilting may change it by a few."""

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
        if self.largest * _TILTED > self.image_size:
            raise ValueError(
                f"digits of {self.largest} pixels do not fit an image of {self.image_size}; "
                f"the largest may have {int(self.image_size / _TILTED)}"
            )

    def __str__(self) -> str:
        asked = ", ".join(f"{name} {value}" for name, value in asdict(self).items())
        return f"tandem-worker data digits, generator {_GENERATOR}: {asked}"


@dataclass(frozen=True)
class Material:
    """Digits (K, 8, 8) in [0, 1] with labels, and photographs (H, W, 3) to put them on."""

    digits: Array
    labels: Array
    photographs: tuple[Array, ...]


@dataclass(frozen=True)
class Drawn:
    """One object: its class, and the box around its ink as left, top, width, height."""

    label: int
    box: tuple[int, int, int, int]


def draw_part(
    root: Path, part: PartName, recipe: DigitsRecipe, *, on_image: Callable[[], None] = lambda: None
) -> Part:
    """Write the images of one part under `root`."""
    material = material_of(part)
    folder = root / "images" / part
    folder.mkdir(parents=True, exist_ok=True)
    count = recipe.train if part == "train" else recipe.val
    images: list[CocoImage] = []
    boxes: list[CocoBox] = []
    hashes: list[str] = []
    for index in range(count):
        picture, drawn = draw_image(material, recipe, part=part, index=index)
        content = _jpeg(picture)
        image = _listed(index, size=recipe.image_size)
        (folder / image["file_name"]).write_bytes(content)
        images.append(image)
        hashes.append(hashlib.sha256(content).hexdigest())
        boxes += _annotations(drawn, image_id=image["id"], first_id=len(boxes) + 1)
        on_image()
    categories: list[CocoCategory] = [
        {"id": label, "name": name} for label, name in enumerate(CLASSES, start=1)
    ]
    document = Coco(images=images, annotations=boxes, categories=categories)
    return Part(document, tuple(hashes))


def material_of(part: PartName) -> Material:
    """The digits and the regions of the photographs that belong to `part`."""
    from sklearn.datasets import load_digits, load_sample_images  # noqa: PLC0415 - takes seconds

    digits = load_digits()
    chosen = digits_of(part, digits.target)
    photographs = tuple(_region_of(part, image) for image in load_sample_images().images)
    return Material(
        (digits.images[chosen] / 16.0).astype(np.float32), digits.target[chosen], photographs
    )


def digits_of(part: PartName, labels: Array) -> Array:
    """Indices of the digits that belong to `part`: the same share of every class."""
    chosen: list[int] = []
    for label in range(len(CLASSES)):
        of_class = np.flatnonzero(labels == label)
        cut = round(len(of_class) * _VALIDATION_SHARE_OF_DIGITS)
        chosen += list(of_class[:cut] if part == "val" else of_class[cut:])
    return np.sort(np.asarray(chosen))


def draw_image(
    material: Material, recipe: DigitsRecipe, *, part: PartName, index: int
) -> tuple[Array, tuple[Drawn, ...]]:
    """Image `index` of a part, (H, W, 3) RGB, and its objects."""
    random = np.random.default_rng((recipe.seed, _SEED_WORDS[part], index))
    picture = _background(material.photographs, recipe, random)
    drawn: list[Drawn] = []
    inked = np.zeros(picture.shape[:2], dtype=bool)
    is_empty = random.random() < recipe.empty_share
    # The first image never is: a set without any box is no set.
    if index == 0 or not is_empty:
        for _ in range(random.integers(1, recipe.most_objects + 1)):
            drawn += _draw_digit(picture, inked, drawn, material, recipe, random)
    return np.rint(picture).astype(np.uint8), tuple(drawn)


def _region_of(part: PartName, photograph: Array) -> Array:
    cut = round(photograph.shape[1] * (1.0 - _VALIDATION_SHARE_OF_PHOTOGRAPHS))
    return photograph[:, cut:] if part == "val" else photograph[:, :cut]


def _background(
    photographs: tuple[Array, ...], recipe: DigitsRecipe, random: np.random.Generator
) -> Array:
    photograph = photographs[random.integers(len(photographs))]
    height, width = photograph.shape[:2]
    side = int(random.integers(_CROP_SIDES[0], _CROP_SIDES[1] + 1))
    top = int(random.integers(0, height - side + 1))
    left = int(random.integers(0, width - side + 1))
    crop = photograph[top : top + side, left : left + side]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    how = cv2.INTER_AREA if side > recipe.image_size else cv2.INTER_LINEAR
    size = (recipe.image_size, recipe.image_size)
    return cv2.resize(np.ascontiguousarray(crop, dtype=np.float32), size, interpolation=how)


def _draw_digit(
    picture: Array,
    inked: Array,
    others: list[Drawn],
    material: Material,
    recipe: DigitsRecipe,
    random: np.random.Generator,
) -> Iterator[Drawn]:
    """Put a random digit on a free place; none if no place was found."""
    which = int(random.integers(len(material.labels)))
    size = float(np.exp(random.uniform(np.log(recipe.smallest), np.log(recipe.largest))))
    ink = _ink(material.digits[which], size, tilt=random.uniform(-1, 1) * _LARGEST_TILT_DEGREES)
    height, width = ink.shape
    room = (recipe.image_size - width + 1, recipe.image_size - height + 1)
    places = random.integers(0, room, size=(_PLACES_TRIED, 2))
    for left, top in places[~_is_crowded(places, (width, height), others)].tolist():
        window = np.s_[top : top + height, left : left + width]
        # Boxes may overlap a little, ink never: every box stays tight around what is seen.
        if not inked[window][ink > 0].any():
            picture[window] = _painted(picture[window], ink, random)
            inked[window] |= ink > 0
            yield Drawn(int(material.labels[which]), (left, top, width, height))
            return


def _ink(digit: Array, size: float, *, tilt: float) -> Array:
    """A digit as opacity in [0, 1], enlarged to `size`, tilted, and cut to its visible ink."""
    rows, columns = (
        np.flatnonzero(digit.max(axis=1) > 0.25),
        np.flatnonzero(digit.max(axis=0) > 0.25),
    )
    scale = size / (max(np.ptp(rows), np.ptp(columns)) + 1)
    side = int(np.ceil(scale * (_CELLS + 2 * _MARGIN_CELLS)))
    turn = cv2.getRotationMatrix2D((0.0, 0.0), tilt, scale)
    # The middle of the 8 x 8 cells, 3.5 as pixel centres count, goes to that of the canvas.
    turn[:, 2] = (side - 1) / 2 - turn[:, :2] @ np.full(2, (_CELLS - 1) / 2)
    raw = cv2.warpAffine(digit, turn, (side, side), flags=cv2.INTER_CUBIC)
    ramp = np.clip((raw - _INK_FROM) / (_INK_FULL - _INK_FROM), 0.0, 1.0)
    ink = ramp * ramp * (3.0 - 2.0 * ramp)
    rows = np.flatnonzero((ink >= _VISIBLE_INK).any(axis=1))
    columns = np.flatnonzero((ink >= _VISIBLE_INK).any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _is_crowded(places: Array, size: tuple[int, int], others: list[Drawn]) -> Array:
    """For every place whether a box of `size` there would share too much with another."""
    if not others:
        return np.zeros(len(places), dtype=bool)
    boxes = np.array([other.box for other in others])
    corner, extent = boxes[None, :, :2], boxes[None, :, 2:]
    start = np.maximum(places[:, None], corner)
    end = np.minimum(places[:, None] + size, corner + extent)
    shared = np.clip(end - start, 0, None).prod(axis=2)
    smaller = np.minimum(extent.prod(axis=2), size[0] * size[1])
    crowded: Array = (shared > _MOST_COVERED * smaller).any(axis=1)
    return crowded


def _painted(ground: Array, ink: Array, random: np.random.Generator) -> Array:
    """`ground` with the ink on it, in a random colour that is clearly lighter or darker than it."""
    colour = random.uniform(0, 255, 3)
    ground_luma = float((ground.mean(axis=(0, 1)) * _LUMA).sum())
    colour = _with_luma(colour, _contrasting_luma(ground_luma, random))
    painted: Array = ground + (colour - ground) * ink[..., None]
    return painted


def _contrasting_luma(ground: float, random: np.random.Generator) -> float:
    darker, lighter = ground - _LEAST_CONTRAST, ground + _LEAST_CONTRAST
    is_lighter = random.random() < 0.5
    if darker < 0 or (is_lighter and lighter <= 255):
        return float(random.uniform(lighter, 255))
    return float(random.uniform(0, darker))


def _with_luma(colour: Array, luma: float) -> Array:
    """The colour mixed with white or black until it is that bright."""
    now = float((colour * _LUMA).sum())
    if luma <= now:
        return colour * (luma / now)
    return colour + (255.0 - colour) * ((luma - now) / (255.0 - now))


def _jpeg(picture: Array) -> bytes:
    _, content = cv2.imencode(".jpg", picture[..., ::-1], _JPEG)
    return content.tobytes()


def _listed(index: int, *, size: int) -> CocoImage:
    return {"id": index + 1, "file_name": f"{index:06d}.jpg", "width": size, "height": size}


def _annotations(drawn: tuple[Drawn, ...], *, image_id: int, first_id: int) -> list[CocoBox]:
    return [
        {
            "id": identifier,
            "image_id": image_id,
            "category_id": one.label + 1,
            "bbox": list(one.box),
            "area": one.box[2] * one.box[3],
            "iscrowd": 0,
        }
        for identifier, one in enumerate(drawn, start=first_id)
    ]
