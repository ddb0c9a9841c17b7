"""mmdet datasets that load every image of their file, and name the image of every error."""

from collections.abc import Sequence
from copy import copy
from typing import Any

import cv2
import mmcv
import numpy as np
from mmdet.datasets import CocoDataset, build_dataset
from mmdet.datasets.builder import PIPELINES
from mmdet.datasets.pipelines import Normalize, Resize

from workers.errors import DatasetError

_MAX_ID = 1 << 53
"""COCOeval sorts ids with numpy, which makes floats of integers of different types."""


def open_dataset(config: Any) -> Any:
    """Build the `CocoDataset` of an mmdet config.

    Raises `DatasetError` if its file lists no image or one that would not be loaded; loading an
    image that the pipeline cannot process raises it, too.
    """
    dataset = build_dataset({**config, "type": UnfilteredDataset})
    num_listed = len(dataset.coco.dataset["images"])
    if num_listed == 0:
        raise DatasetError(f"{config['ann_file']} lists no image.")
    if len(dataset) != num_listed:
        raise DatasetError(
            f"{config['ann_file']} lists {num_listed:,} images, but {len(dataset):,} would be "
            "loaded: image ids are repeated. Import the dataset again."
        )
    if any(abs(image_id) > _MAX_ID for image_id in dataset.img_ids):
        raise DatasetError(
            f"{config['ann_file']} has image ids beyond 2^53, with which COCO's evaluation loses "
            "images. Import the dataset again: images are counted from 1 then."
        )
    dataset.pipeline = Pipeline(dataset.pipeline.transforms)
    return dataset


class UnfilteredDataset(CocoDataset):
    """mmdet's COCO dataset, which would leave out images with a side under 32 pixels."""

    def _filter_imgs(self, min_size: int = 0) -> Any:
        return super()._filter_imgs(min_size=min_size)


@PIPELINES.register_module(name="Resize", force=True)
class ResizeToPixels(Resize):
    """mmdet's `Resize`, with a result of at least one pixel for very long images, too."""

    def _resize_img(self, results: dict[str, Any]) -> None:
        height, width = results["img"].shape[:2]
        size = mmcv.rescale_size((width, height), results["scale"]) if self.keep_ratio else (1, 1)
        if min(size) >= 1:
            super()._resize_img(results)
            return
        results["scale"] = tuple(max(side, 1) for side in size)
        stretch = copy(self)
        stretch.keep_ratio = False
        stretch._resize_img(results)


@PIPELINES.register_module(name="Normalize", force=True)
class NormalizeByTable(Normalize):
    """mmdet's `Normalize` for images of bytes, with the values of all 256 bytes computed once.

    The values are the same bits, in half of the time.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], to_rgb: bool = True) -> None:
        super().__init__(mean, std, to_rgb)
        ramp_HWC = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 256, 1), 3, axis=2)
        self._table_HWC = mmcv.imnormalize(ramp_HWC, self.mean, self.std, self.to_rgb)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Normalize the images of a sample."""
        fields = results.get("img_fields", ["img"])
        if any(results[field].dtype != np.uint8 for field in fields):
            return dict(super().__call__(results))
        for field in fields:
            image_HWC = results[field]
            if self.to_rgb:
                image_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)
            results[field] = cv2.LUT(image_HWC, self._table_HWC)
        results["img_norm_cfg"] = {"mean": self.mean, "std": self.std, "to_rgb": self.to_rgb}
        return results


class Pipeline:
    """Applies transforms as mmdet's pipeline, whose own errors do not name the file."""

    def __init__(self, transforms: Sequence[Any]) -> None:
        self._transforms = transforms

    def split_before(self, transform: type[Any]) -> tuple["Pipeline", "Pipeline"]:
        """Two pipelines: the steps before the first one of a class, and all from it on."""
        position = next(i for i, step in enumerate(self._transforms) if isinstance(step, transform))
        return Pipeline(self._transforms[:position]), Pipeline(self._transforms[position:])

    def __call__(self, results: dict[str, Any]) -> Any:
        file = f"{results['img_prefix']}/{results['img_info']['filename']}"
        try:
            return self._apply(results)
        except FileNotFoundError as error:
            raise DatasetError(
                f"The image {file} was removed after the dataset had been imported."
            ) from error
        except (OSError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
                raise MemoryError(f"{file} does not fit into the host's memory.") from error
            if "img" not in results:
                raise DatasetError(f"{file} cannot be decoded as an image.") from error
            raise DatasetError(
                f"{file} cannot be prepared: {type(error).__name__}: {error}"
            ) from error

    def _apply(self, results: dict[str, Any]) -> Any:
        for transform in self._transforms:
            results = transform(results)
        return results
