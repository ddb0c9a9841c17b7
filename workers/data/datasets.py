"""mmdet datasets whose unreadable images are told by their name, as what they are."""

from typing import Any

import cv2
from mmdet.datasets import build_dataset

from workers.errors import DatasetError


def open_dataset(config: Any) -> Any:
    """The dataset of an mmdet configuration; an image that is none raises `DatasetError`."""
    dataset = build_dataset(config)
    load, *others = dataset.pipeline.transforms
    dataset.pipeline.transforms = [_Reading(load), *others]
    return dataset


class _Reading:
    """mmdet's own step; it fails on what OpenCV cannot decode without saying on which file."""

    def __init__(self, load: Any) -> None:
        self._load = load

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        file = f"{results['img_prefix']}/{results['img_info']['filename']}"
        try:
            loaded: dict[str, Any] = self._load(results)
        except FileNotFoundError as error:
            raise DatasetError(f"The image {file} is gone since the dataset was made.") from error
        except (AttributeError, cv2.error) as error:
            raise DatasetError(f"{file} cannot be read as an image (any more).") from error
        return loaded
