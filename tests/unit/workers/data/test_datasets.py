"""A removed or damaged image raises `DatasetError` with its name."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.training.digits import write_digits
from workers.data.datasets import open_dataset
from workers.errors import DatasetError


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
