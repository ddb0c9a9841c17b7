"""Mosaic and mixup on drawn images with known boxes, and what their draws depend on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.spec.data import Data, Mixup, Mosaic
from configs.spec.references import DatasetFiles
from tests.support.training.digits import write_digits
from workers.data.datasets import open_dataset
from workers.data.mixing import BoxedImage, ImageMixer, make_mosaic, mix_up, scale_image
from workers.data.sampling import SeededDataset
from workers.errors import DatasetError

EPOCHS = 5
GRAY = 114


def draw_sample(
    color: int, *boxes: tuple[int, int, int, int], label: int = 0, size: tuple[int, int] = (40, 30)
) -> BoxedImage:
    """Black, with boxes filled in one gray level; `size` is width and height."""
    width, height = size
    image_HWC = np.zeros((height, width, 3), np.uint8)
    for x_min, y_min, x_max, y_max in boxes:
        image_HWC[y_min:y_max, x_min:x_max] = color
    boxes_N4 = np.array(boxes, np.float32).reshape(-1, 4)
    return BoxedImage(image_HWC, boxes_N4, np.full(len(boxes), label, np.int64))


def measure_box(image_HWC: Any, color: int) -> list[int]:
    """The box around all pixels of a gray level."""
    rows, columns = np.nonzero((image_HWC == color).all(axis=2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_boxes_of_a_mosaic_fit_its_pixels() -> None:
    colors = (50, 100, 150, 200)
    tiles = [draw_sample(color, (4, 6, 36, 24), label=label) for label, color in enumerate(colors)]

    mosaic = make_mosaic(tiles, center=(22, 13), size=(50, 32))

    assert mosaic.image_HWC.shape == (32, 50, 3)
    assert mosaic.labels_N.tolist() == [0, 1, 2, 3]
    for box_4, color in zip(mosaic.boxes_N4.tolist(), colors, strict=True):
        assert box_4 == measure_box(mosaic.image_HWC, color)


def test_pixels_without_an_image_are_gray() -> None:
    tiles = [draw_sample(200, size=(10, 10))] * 4

    mosaic = make_mosaic(tiles, center=(20, 15), size=(40, 30))

    assert measure_box(mosaic.image_HWC, 0) == [10, 5, 30, 25]
    assert int((mosaic.image_HWC == GRAY).all(axis=2).sum()) == 40 * 30 - 20 * 20


@pytest.mark.parametrize(
    ("box", "is_visible"),
    [
        ((0, 0, 36, 10), True),  # 16 of 36 columns are on the canvas
        ((0, 0, 25, 10), True),  # 5 of 25, a fifth
        ((0, 0, 24, 10), False),
        ((19, 0, 21, 10), False),  # a single column
        ((0, 0, 20, 10), False),
    ],
)
def test_a_box_of_which_too_little_is_visible_is_dropped(
    box: tuple[int, int, int, int], is_visible: bool
) -> None:
    """The first image exceeds the canvas by 20 columns."""
    tiles = [draw_sample(200, box), *([draw_sample(0)] * 3)]

    mosaic = make_mosaic(tiles, center=(20, 30), size=(60, 60))

    assert (len(mosaic.boxes_N4), len(mosaic.labels_N)) == ((1, 1) if is_visible else (0, 0))


def test_boxes_are_scaled_with_their_image() -> None:
    scaled = scale_image(draw_sample(200, (8, 4, 32, 20)), 0.5)

    assert scaled.image_HWC.shape == (15, 20, 3)
    assert scaled.boxes_N4.tolist() == [measure_box(scaled.image_HWC, 200)] == [[4, 2, 16, 10]]


def test_mixup_is_the_mean_of_both_images_with_the_boxes_of_both() -> None:
    base, other = draw_sample(100, (0, 0, 10, 10), label=1), draw_sample(60, (20, 10, 40, 30))

    mixed = mix_up(base, other)

    assert mixed.boxes_N4.tolist() == [[0, 0, 10, 10], [20, 10, 40, 30]]
    assert mixed.labels_N.tolist() == [1, 0]
    assert measure_box(mixed.image_HWC, 50) == [0, 0, 10, 10]
    assert measure_box(mixed.image_HWC, 30) == [20, 10, 40, 30]


def test_a_larger_image_is_shrunk_to_fit_and_a_smaller_one_stays() -> None:
    base = draw_sample(0, size=(40, 30))

    shrunk = mix_up(base, draw_sample(200, (0, 0, 80, 40), size=(80, 40)))
    small = mix_up(base, draw_sample(200, (0, 0, 20, 10), size=(20, 10)))

    assert shrunk.boxes_N4.tolist() == [[0, 0, 40, 20]]
    assert small.boxes_N4.tolist() == [[0, 0, 20, 10]]
    assert measure_box(small.image_HWC, 100) == [0, 0, 20, 10]
    assert measure_box(small.image_HWC, GRAY // 2) == [0, 0, 40, 30]


def open_digits(folder: Path) -> Any:
    write_digits(folder, train=6, val=1)
    return open_dataset(
        {
            "type": "CocoDataset",
            "ann_file": str(next(folder.rglob("*train*.json"))),
            "img_prefix": str(folder / "images" / "train"),
            "classes": tuple("0123456789"),
            "filter_empty_gt": False,
            "pipeline": [
                {"type": "LoadImageFromFile"},
                {"type": "LoadAnnotations", "with_bbox": True},
                {"type": "Resize", "img_scale": (96, 64), "keep_ratio": True},
                {"type": "RandomFlip", "flip_ratio": 0.5},
                {"type": "Normalize", "mean": [0, 0, 0], "std": [1, 1, 1], "to_rgb": False},
                {"type": "Pad", "size_divisor": 32},
                {"type": "DefaultFormatBundle"},
                {"type": "Collect", "keys": ["img", "gt_bboxes", "gt_labels"]},
            ],
        }
    )


def make_seeded(dataset: Any, **changes: Any) -> SeededDataset:
    data = Data(dataset=DatasetFiles(root="/digits"), **changes)
    return SeededDataset(dataset, seed=3, mixer=ImageMixer(dataset, data, epochs=EPOCHS))


def load(dataset: SeededDataset, index: int, *, epoch: int) -> tuple[Any, Any]:
    dataset.set_epoch(epoch)
    sample = dataset[index]
    return sample["img"].data.numpy(), sample["gt_bboxes"].data.numpy()


def test_a_mixed_image_follows_from_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    digits = open_digits(tmp_path)
    first, second = (make_seeded(digits, mosaic=Mosaic(), mixup=Mixup()) for _ in range(2))

    forwards = [load(first, index, epoch=1) for index in range(6)]
    backwards = [load(second, index, epoch=1) for index in reversed(range(6))][::-1]

    for (image, boxes), (other_image, other_boxes) in zip(forwards, backwards, strict=True):
        assert (image == other_image).all()
        assert (boxes == other_boxes).all()
    assert any((image != load(first, i, epoch=0)[0]).any() for i, (image, _) in enumerate(forwards))


@pytest.mark.parametrize("name", ["mosaic", "mixup"])
def test_the_last_epochs_have_the_plain_images(tmp_path: Path, name: str) -> None:
    digits = open_digits(tmp_path)
    mixture = {"mosaic": Mosaic(stop_epochs=2), "mixup": Mixup(stop_epochs=2, probability=1.0)}[
        name
    ]
    mixed, plain = make_seeded(digits, **{name: mixture}), SeededDataset(digits, seed=3)

    for epoch in range(EPOCHS):
        (image, _), (expected, _) = (load(d, 0, epoch=epoch) for d in (mixed, plain))
        assert image.shape == expected.shape
        assert (image == expected).all() == (epoch >= EPOCHS - 2)


def test_a_probability_is_a_share_of_the_images(tmp_path: Path) -> None:
    digits = open_digits(tmp_path)
    mixed, plain = (
        make_seeded(digits, mosaic=Mosaic(probability=0.5)),
        SeededDataset(digits, seed=3),
    )

    is_mixed = [
        bool((load(mixed, index, epoch=0)[0] != load(plain, index, epoch=0)[0]).any())
        for index in range(6)
    ]

    assert set(is_mixed) == {False, True}


def test_a_damaged_image_of_a_mosaic_is_named(tmp_path: Path) -> None:
    digits = open_digits(tmp_path)
    dataset = make_seeded(digits, mosaic=Mosaic())
    names = [info["filename"] for info in digits.data_infos]
    for name in names[1:]:
        (tmp_path / "images" / "train" / name).write_bytes(b"no image")

    with pytest.raises(DatasetError, match=r"images/train/.* cannot be prepared"):
        load(dataset, 0, epoch=0)
