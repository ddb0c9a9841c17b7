"""The images on which a probe times an evaluation."""

from typing import Any

import numpy as np
import pytest

from workers.probe.costs import count_evaluated_images


class Dataset:
    """A dataset with so many objects in each image."""

    def __init__(self, *num_objects: int) -> None:
        self._num_objects = num_objects

    def __len__(self) -> int:
        return len(self._num_objects)

    def get_ann_info(self, index: int) -> dict[str, Any]:
        return {"bboxes": np.zeros((self._num_objects[index], 4))}


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (Dataset(1, 0, 0, 0), 2),
        (Dataset(0, 1, 0, 0), 2),
        (Dataset(0, 0, 0, 5), 4),
        (Dataset(0, 0, 0, 0), 2),
        (Dataset(1), 1),
    ],
    ids=["first", "second", "last", "none", "single"],
)
def test_one_of_the_evaluated_images_has_an_object(dataset: Dataset, expected: int) -> None:
    assert count_evaluated_images(dataset, 2) == expected
