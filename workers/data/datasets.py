"""mmdet datasets that report unreadable images by name, as `DatasetError`."""

from typing import Any

import cv2
from mmdet.datasets import build_dataset

from workers.errors import DatasetError


def open_dataset(config: Any) -> Any:
    """Build the dataset of an mmdet config; loading an unreadable image raises `DatasetError`."""
    dataset = build_dataset(config)
    load, *transforms = dataset.pipeline.transforms
    dataset.pipeline.transforms = [_LoadImage(load), *transforms]
    return dataset


class _LoadImage:
    """Wraps mmdet's loading step, whose own errors do not name the file."""

    def __init__(self, load: Any) -> None:
        self._load = load

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        file = f"{results['img_prefix']}/{results['img_info']['filename']}"
        try:
            loaded: dict[str, Any] = self._load(results)
        except FileNotFoundError as error:
            raise DatasetError(
                f"The image {file} was removed after the dataset had been imported."
            ) from error
        except (AttributeError, cv2.error) as error:
            raise DatasetError(f"{file} cannot be decoded as an image.") from error
        return loaded
