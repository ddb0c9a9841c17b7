"""Finds validation images that look like a training image, by perceptual hashes.

A copy that was resized, compressed again or slightly brightened differs from the original in a few
of 256 bits; unrelated images differ in about half of them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.protocol.dataset_statistics import NearDuplicate
from workers.data.image_threads import map_images
from workers.data.images import InvalidImage, read_pixels
from workers.errors import DatasetError

MAX_DISTANCE = 32
"""Two images look alike if at most so many of 256 bits differ."""

_HASH_SIZE = 16
_HASH_UINT64S = _HASH_SIZE**2 // 64
_MIN_EDGE_PX = 256
"""JPEG files are decoded at the smallest scale whose longest edge has so many pixels."""

_BLOCK = 256


def hash_images(paths: Sequence[Path], *, on_image: Callable[[], None]) -> NDArray[np.uint64]:
    """The perceptual hash of each image, as 4 words: shape (images, 4)."""
    hashes = np.zeros((len(paths), _HASH_UINT64S), np.uint64)
    for index, value in enumerate(map_images(_hash_image, paths, on_image=on_image)):
        hashes[index] = value
    return hashes


def find_near_duplicates(
    val_hashes: NDArray[np.uint64],
    train_hashes: NDArray[np.uint64],
    *,
    names: tuple[Sequence[str], Sequence[str]],
) -> list[NearDuplicate]:
    """The most similar training image of each validation image that has one, by distance.

    `names` are those of the validation and of the training images.
    """
    duplicates: list[NearDuplicate] = []
    for start in range(0, len(val_hashes), _BLOCK):
        block = val_hashes[start : start + _BLOCK]
        distances = sum(
            np.bitwise_count(block[:, None, index] ^ train_hashes[None, :, index]).astype(np.uint16)
            for index in range(_HASH_UINT64S)
        )
        nearest = np.argmin(distances, axis=1)
        for row, column in enumerate(nearest):
            distance = int(distances[row, column])
            if distance <= MAX_DISTANCE:
                val, train = names[0][start + row], names[1][column]
                duplicates.append(NearDuplicate(val=val, train=train, distance=distance))
    return sorted(duplicates, key=lambda item: (item.distance, item.val))


def _hash_image(path: Path) -> NDArray[np.uint64]:
    try:
        pixels = read_pixels(path, min_edge=_MIN_EDGE_PX)
    except InvalidImage as error:
        raise DatasetError(f"{path} cannot be read: {error}.") from error
    bits = imagehash.phash(Image.fromarray(pixels), hash_size=_HASH_SIZE).hash
    return np.packbits(bits.ravel()).view(np.uint64)
