"""Fixtures: a digits dataset, loaded by mmdet."""

import contextlib
import io
from typing import Any

import pytest
from mmdet.datasets import build_dataset

from tests.support.training.digits import write_digits
from workers.data.digits import CLASSES


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = write_digits(tmp_path_factory.mktemp("digits"), train=4, val=6)
    with contextlib.redirect_stdout(io.StringIO()):
        return build_dataset(
            {
                "type": "CocoDataset",
                "ann_file": str(root / "annotations" / "val.json"),
                "img_prefix": str(root / "images" / "val"),
                "classes": CLASSES,
                "pipeline": [],
                "test_mode": True,
            }
        )
