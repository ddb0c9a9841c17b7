"""Mosaic and mixup: training images made of several, with the boxes of all of them.

Unlike mmdet's, a mixed image has the size of its first image, so that batches of one orientation
stay such. All draws follow from the generator that is passed, and from the global ones of numpy
and Python, which `SeededDataset` seeds for each image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import mmcv
import numpy as np
from mmdet.datasets.pipelines import Normalize
from numpy.typing import NDArray

from configs.spec.data import Data, Mixture

_GRAY = 114
"""Of pixels without an image, as in YOLOX."""

_MIN_VISIBLE_FRACTION = 0.2
_MIN_EDGE_PX = 2.0
"""Of cropped boxes; as in the `RandomAffine` that follows mmdet's mosaic for YOLOX."""

_CENTER_RANGE = (0.25, 0.75)
_SCALE_RANGE = (0.5, 1.0)
_NUM_TILES = 4


@dataclass(frozen=True)
class BoxedImage:
    """An image with its boxes, resized and flipped, before its normalization."""

    image_HWC: NDArray[np.uint8]
    boxes_N4: NDArray[np.float32]
    """Left, top, right, bottom, in pixels."""

    labels_N: NDArray[np.int64]


class ImageMixer:
    """Loads training images of an mmdet dataset with mosaic and mixup."""

    def __init__(self, dataset: Any, data: Data, *, epochs: int) -> None:
        """`epochs` are those of the whole training."""
        self._dataset = dataset
        self._augment, self._format = dataset.pipeline.split_before(Normalize)
        self._data = data
        self._epochs = epochs

    def is_active(self, epoch: int) -> bool:
        """Whether images of an epoch, counted from 0, may be mixed."""
        return self._applies(self._data.mosaic, epoch) or self._applies(self._data.mixup, epoch)

    def load(self, index: int, *, epoch: int, random_state: np.random.Generator) -> Any:
        """Load an image as the dataset's pipeline does, after mixing it with others."""
        results = self._load(index)
        image = read_image(results)
        if self._draws(self._data.mosaic, epoch, random_state):
            tiles = [image, *(self._load_any(random_state) for _ in range(_NUM_TILES - 1))]
            image = self._draw_mosaic(tiles, random_state)
        if self._draws(self._data.mixup, epoch, random_state):
            image = mix_up(image, self._load_any(random_state))
        results["img"] = image.image_HWC
        results["gt_bboxes"], results["gt_labels"] = image.boxes_N4, image.labels_N
        results["gt_bboxes_ignore"] = np.zeros((0, 4), np.float32)  # not trained with
        return self._format(results)

    def _applies(self, mixture: Mixture | None, epoch: int) -> bool:
        return mixture is not None and epoch < self._epochs - mixture.stop_epochs

    def _draws(
        self, mixture: Mixture | None, epoch: int, random_state: np.random.Generator
    ) -> bool:
        if mixture is None or not self._applies(mixture, epoch):
            return False
        return bool(random_state.random() < mixture.probability)

    def _load(self, index: int) -> dict[str, Any]:
        results = {
            "img_info": self._dataset.data_infos[index],
            "ann_info": self._dataset.get_ann_info(index),
        }
        self._dataset.pre_pipeline(results)
        augmented: dict[str, Any] = self._augment(results)
        return augmented

    def _load_any(self, random_state: np.random.Generator) -> BoxedImage:
        return read_image(self._load(int(random_state.integers(len(self._dataset)))))

    def _draw_mosaic(
        self, tiles: Sequence[BoxedImage], random_state: np.random.Generator
    ) -> BoxedImage:
        height, width = tiles[0].image_HWC.shape[:2]
        x, y = random_state.uniform(*_CENTER_RANGE, size=2)
        scales = random_state.uniform(*_SCALE_RANGE, size=_NUM_TILES)
        scaled = [scale_image(tile, float(s)) for tile, s in zip(tiles, scales, strict=True)]
        return make_mosaic(
            scaled, center=(round(x * width), round(y * height)), size=(width, height)
        )


def read_image(results: dict[str, Any]) -> BoxedImage:
    """The image and boxes in the results of an mmdet pipeline."""
    return BoxedImage(results["img"], results["gt_bboxes"], results["gt_labels"])


def scale_image(image: BoxedImage, scale: float) -> BoxedImage:
    """Resize image and boxes; each edge has at least one pixel."""
    height, width = image.image_HWC.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    factors_4 = np.array([size[0] / width, size[1] / height] * 2, np.float32)
    image_HWC = mmcv.imresize(image.image_HWC, size)
    return BoxedImage(image_HWC, image.boxes_N4 * factors_4, image.labels_N)


def make_mosaic(
    tiles: Sequence[BoxedImage], *, center: tuple[int, int], size: tuple[int, int]
) -> BoxedImage:
    """Put four images around a point: above left, above right, below left, below right.

    `center` (x, y) and `size` (width, height) are in pixels. What exceeds the size is cut off.
    """
    width, height = size
    canvas_HWC = np.full((height, width, 3), _GRAY, np.uint8)
    cropped = []
    for position, tile in enumerate(tiles):
        tile_height, tile_width = tile.image_HWC.shape[:2]
        x = center[0] - (0 if position % 2 else tile_width)
        y = center[1] - (0 if position // 2 else tile_height)
        _paste(tile.image_HWC, canvas_HWC, x=x, y=y)
        cropped.append(_crop(tile, x=x, y=y, size=size))
    boxes_N4 = np.concatenate([tile.boxes_N4 for tile in cropped])
    return BoxedImage(canvas_HWC, boxes_N4, np.concatenate([tile.labels_N for tile in cropped]))


def mix_up(image: BoxedImage, other: BoxedImage) -> BoxedImage:
    """The mean of two images, with the boxes of both (Zhang et al., 2018).

    The other image is shrunk to fit and put into the upper left corner.
    """
    height, width = image.image_HWC.shape[:2]
    other_height, other_width = other.image_HWC.shape[:2]
    fitted = scale_image(other, min(1.0, width / other_width, height / other_height))
    canvas_HWC = np.full_like(image.image_HWC, _GRAY)
    _paste(fitted.image_HWC, canvas_HWC, x=0, y=0)
    return BoxedImage(
        np.asarray(cv2.addWeighted(image.image_HWC, 0.5, canvas_HWC, 0.5, 0.0), np.uint8),
        np.concatenate([image.boxes_N4, fitted.boxes_N4]),
        np.concatenate([image.labels_N, fitted.labels_N]),
    )


def _paste(image_HWC: NDArray[np.uint8], canvas_HWC: NDArray[np.uint8], *, x: int, y: int) -> None:
    """Copy the part of an image that lies on the canvas; its upper left corner is at (x, y)."""
    height, width = image_HWC.shape[:2]
    x_min, y_min = max(0, x), max(0, y)
    x_max, y_max = min(canvas_HWC.shape[1], x + width), min(canvas_HWC.shape[0], y + height)
    canvas_HWC[y_min:y_max, x_min:x_max] = image_HWC[y_min - y : y_max - y, x_min - x : x_max - x]


def _crop(image: BoxedImage, *, x: int, y: int, size: tuple[int, int]) -> BoxedImage:
    """Move boxes by (x, y) with their image; drop those of which too little is visible."""
    offset_4 = np.array([x, y, x, y], np.float32)
    boxes_N4 = image.boxes_N4 + offset_4
    clipped_N4 = boxes_N4.clip(0, np.array([*size, *size], np.float32))
    edges_N2 = clipped_N4[:, 2:] - clipped_N4[:, :2]
    area_N = np.prod(boxes_N4[:, 2:] - boxes_N4[:, :2], axis=1)
    is_visible_N = (edges_N2 >= _MIN_EDGE_PX).all(axis=1)
    is_visible_N &= np.prod(edges_N2, axis=1) >= _MIN_VISIBLE_FRACTION * area_N
    return BoxedImage(image.image_HWC, clipped_N4[is_visible_N], image.labels_N[is_visible_N])
