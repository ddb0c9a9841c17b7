"""Every sample has a picture of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.protocol.names import RunFile
from tests.support.workers.dataset_folders import write_image
from workers.data.images import read_size
from workers.evaluation.coco import CocoMetrics, PrecisionCurve
from workers.evaluation.drawing import choose_picture_name
from workers.evaluation.samples import write_sample_images

NAMES = ("cam0/1.png", "cam1/1.png", "cam2/1.png", "overview.png", "Overview.jpg", "1-2.png")
NO_BOXES = {"bboxes": np.zeros((0, 4)), "labels": np.zeros(0, dtype=int)}


class Dataset:
    """A dataset of `NAMES` without boxes, as far as pictures need one."""

    CLASSES = ("cat",)

    def __init__(self, root: Path) -> None:
        self.img_prefix = str(root)
        self.data_infos = [{"file_name": name} for name in NAMES]
        for shade, name in enumerate(NAMES):
            write_image(root / name, shade=shade)

    def __len__(self) -> int:
        return len(NAMES)

    def get_ann_info(self, index: int) -> dict[str, Any]:
        return NO_BOXES


def nothing_detected() -> CocoMetrics:
    curve = PrecisionCurve(np.zeros(101), np.zeros(101), np.zeros(101))
    empty = [[np.zeros((0, 5))] for _ in NAMES]
    return CocoMetrics({}, {}, empty, {}, {}, {}, curve)


def test_every_picture_is_there(tmp_path: Path) -> None:
    paths = write_sample_images(
        tmp_path, Dataset(tmp_path / "images"), student=nothing_detected(), teacher=None, count=99
    )

    names = [Path(path).name for path in paths]
    assert names[0] == "overview.png"
    assert len({name.casefold() for name in names}) == len(NAMES) + 1
    contents = {(tmp_path / path).read_bytes() for path in paths}
    assert len(contents) == len(NAMES) + 1
    assert len(list((tmp_path / RunFile.PICTURES).iterdir())) == len(NAMES) + 1
    heights = [read_size((tmp_path / path).read_bytes())[1] for path in paths]
    assert heights[0] > sum(heights[1:])


@pytest.mark.parametrize(
    ("image", "names", "expected"),
    [
        ("a/1.jpg", (), "1.png"),
        ("a/1.jpg", ("1.png", "1-2.png"), "1-3.png"),
        ("A.jpg", ("a.png",), "A-2.png"),
        ("x" * 250 + ".png", (), "x" * 200 + ".png"),
        ("ä" * 120 + ".png", (), "ä" * 100 + ".png"),
    ],
)
def test_a_picture_has_the_name_of_its_image_and_a_number_if_that_is_taken(
    image: str, names: tuple[str, ...], expected: str
) -> None:
    assert choose_picture_name(Path(image), names) == expected
