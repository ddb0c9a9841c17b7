"""Every image is loaded, and one that cannot be raises `DatasetError` with its name."""

import errno
import json
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import pytest
from mmcv.utils import build_from_cfg
from mmdet.datasets.builder import PIPELINES
from mmdet.datasets.pipelines import Normalize
from PIL import Image

from tests.support.training.detectors import make_detector
from tests.support.training.digits import write_digits
from workers.data.datasets import Pipeline, open_dataset
from workers.errors import DatasetError
from workers.models.detector_config import get_normalization


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    root = tmp_path / "digits"
    write_digits(root, train=3, val=1)
    return open_dataset(
        {
            "type": "CocoDataset",
            "ann_file": str(next(root.rglob("*train*.json"))),
            "img_prefix": str(root / "images" / "train"),
            "classes": tuple("0123456789"),
            "pipeline": [{"type": "LoadImageFromFile"}],
            "test_mode": True,
        }
    )


def open_images(root: Path, *sizes: tuple[int, int], pipeline: list[dict[str, Any]]) -> Any:
    """Open a training set with an image of each size (width, height), and a box on all of it."""
    document: dict[str, Any] = {"categories": [{"id": 1, "name": "cat"}]}
    document["images"] = [
        {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        for number, (width, height) in enumerate(sizes, start=1)
    ]
    document["annotations"] = [
        {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "bbox": [0, 0, *size],
            "area": size[0] * size[1],
            "iscrowd": 0,
        }
        for number, size in enumerate(sizes, start=1)
    ]
    for number, size in enumerate(sizes, start=1):
        Image.new("RGB", size).save(root / f"{number}.png")
    return open_document(root, document, pipeline=pipeline)


def open_document(root: Path, document: Any, *, pipeline: list[dict[str, Any]]) -> Any:
    (root / "train.json").write_text(json.dumps(document))
    return open_dataset(
        {
            "type": "CocoDataset",
            "ann_file": str(root / "train.json"),
            "img_prefix": str(root),
            "classes": ("cat",),
            "filter_empty_gt": False,
            "pipeline": pipeline,
        }
    )


LOAD: list[dict[str, Any]] = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_bbox": True},
]
RESIZE: dict[str, Any] = {"type": "Resize", "img_scale": (160, 160), "keep_ratio": True}


def find_file(dataset: Any, index: int) -> Path:
    return Path(dataset.img_prefix) / str(dataset.data_infos[index]["filename"])


def test_an_image_is_read(dataset: Any) -> None:
    assert dataset[0]["img"].ndim == 3


@pytest.mark.parametrize("content", [b"", b"no image"], ids=["empty", "something else"])
def test_a_damaged_image_is_named(dataset: Any, content: bytes) -> None:
    file = find_file(dataset, 1)
    file.write_bytes(content)

    with pytest.raises(DatasetError, match=file.name):
        dataset[1]


def test_a_removed_image_is_named(dataset: Any) -> None:
    file = find_file(dataset, 1)
    file.unlink()

    with pytest.raises(DatasetError, match=f"{file.name} was removed after"):
        dataset[1]


def test_images_with_a_side_under_32_pixels_are_loaded(tmp_path: Path) -> None:
    dataset = open_images(tmp_path, (28, 28), (1, 1), (31, 400), pipeline=LOAD)

    assert [dataset[index]["img"].shape[:2] for index in range(len(dataset))] == [
        (28, 28),
        (1, 1),
        (400, 31),
    ]


@pytest.mark.parametrize(
    ("size", "resized"),
    [((6000, 18), (1, 160)), ((2, 1200), (160, 1)), ((320, 160), (80, 160))],
    ids=["wide", "high", "usual"],
)
def test_an_image_keeps_a_pixel_when_it_is_resized(
    tmp_path: Path, size: tuple[int, int], resized: tuple[int, int]
) -> None:
    dataset = open_images(tmp_path, size, pipeline=[*LOAD, RESIZE])

    loaded = dataset[0]

    assert loaded["img"].shape[:2] == resized
    np.testing.assert_allclose(loaded["gt_bboxes"], [[0, 0, resized[1], resized[0]]])


def test_resizing_changes_no_usual_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (97, 143, 3), dtype=np.uint8)
    dataset = open_images(tmp_path, (143, 97), pipeline=[*LOAD, RESIZE])
    cv2.imwrite(str(tmp_path / "1.png"), pixels)

    np.testing.assert_array_equal(dataset[0]["img"], mmcv.imrescale(pixels, (160, 160)))


@pytest.mark.parametrize("kind", ["imagenet", "caffe", "detectron", "half", "none"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalized_images_are_those_of_mmcv_to_the_bit(kind: str, dtype: Any) -> None:
    config = get_normalization(make_detector().model_copy(update={"normalize": kind}))
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47, 3)).astype(dtype)
    pixels[0, 0], pixels[0, 1] = 0, 255
    normalize = build_from_cfg({"type": "Normalize", **config}, PIPELINES)

    actual = normalize({"img": pixels.copy(), "img_fields": ["img"]})

    expected = Normalize(**config)({"img": pixels.copy(), "img_fields": ["img"]})
    assert actual["img"].dtype == expected["img"].dtype == np.float32
    np.testing.assert_array_equal(actual["img"], expected["img"])
    assert str(actual["img_norm_cfg"]) == str(expected["img_norm_cfg"])


@pytest.mark.parametrize("document", [{"images": []}, {"images": [{"id": 1}, {"id": 1}]}])
def test_a_file_without_images_or_with_one_that_is_lost_is_refused(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    images = [
        image | {"file_name": "a.png", "width": 9, "height": 9} for image in document["images"]
    ]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}

    with pytest.raises(DatasetError, match=r"train\.json lists"):
        open_document(tmp_path, document, pipeline=LOAD)


def fail_with(dataset: Any, error: Exception) -> None:
    def fail(results: dict[str, Any]) -> None:
        results["img"] = np.zeros((1, 1, 3))
        raise error

    dataset.pipeline = Pipeline([fail])


@pytest.mark.parametrize("error", [ValueError("odd"), cv2.error("odd"), KeyError("odd")], ids=repr)
def test_any_error_of_the_pipeline_names_the_image(dataset: Any, error: Exception) -> None:
    fail_with(dataset, error)

    with pytest.raises(DatasetError, match=f"{find_file(dataset, 1).name} cannot be prepared.*odd"):
        dataset[1]


def test_an_error_of_the_machine_is_none_of_the_dataset(dataset: Any) -> None:
    fail_with(dataset, OSError(errno.EIO, "Input/output error"))

    with pytest.raises(OSError, match="Input/output"):
        dataset[1]


@pytest.mark.parametrize("image_id", [1 << 63, -(1 << 60), (1 << 53) + 1])
def test_ids_with_which_an_evaluation_loses_images_are_refused(
    tmp_path: Path, image_id: int
) -> None:
    images = [
        {"id": number, "file_name": f"{number}.png", "width": 9, "height": 9}
        for number in (1, image_id)
    ]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}

    with pytest.raises(DatasetError, match=r"beyond 2\^53"):
        open_document(tmp_path, document, pipeline=LOAD)
