"""LabelMe's JSON files."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers.dataset_folders import SIZE, write_image
from workers.data.formats.labelme import LabelMeFiles, read_labelme
from workers.data.formats.layouts import AnnotationFormat, detect_layout, read_layout
from workers.data.formats.parsed import ParsedSplit
from workers.data.problems import ProblemCode

RECTANGLE = [[4, 4], [19, 24]]


def shape(
    points: Any = RECTANGLE, kind: str | None = "rectangle", **changes: Any
) -> dict[str, Any]:
    return {"label": "cat", "points": points, "shape_type": kind, "group_id": None} | changes


def write_labels(path: Path, *shapes: Any, **changes: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": "5.4.1",
        "shapes": list(shapes),
        "imagePath": f"{path.stem}.jpg",
        "imageData": "aGVsbG8=",
        "imageWidth": SIZE[0],
        "imageHeight": SIZE[1],
    }
    path.write_text(json.dumps(document | changes), encoding="utf-8")


def read_shapes(folder: Path, *shapes: Any, **changes: Any) -> ParsedSplit:
    write_image(folder / "a.jpg")
    write_labels(folder / "a.json", *shapes, **changes)
    return read_labelme(LabelMeFiles(folder, folder))


@pytest.mark.parametrize(
    ("points", "kind", "edges"),
    [
        (RECTANGLE, "rectangle", (4, 4, 15, 20)),
        ([[19, 24], [4, 4]], "rectangle", (4, 4, 15, 20)),
        ([[4, 4], [19, 4], [10, 24]], "polygon", (4, 4, 15, 20)),
        ([[4, 4], [19, 4], [10, 24]], None, (4, 4, 15, 20)),
        (RECTANGLE, "mask", (4, 4, 15, 20)),
        ([[10, 10], [13, 14]], "circle", (5, 5, 10, 10)),
    ],
    ids=["rectangle", "from the right", "polygon", "no type", "mask", "circle"],
)
def test_shapes_become_boxes(tmp_path: Path, points: Any, kind: str | None, edges: Any) -> None:
    split = read_shapes(tmp_path, shape(points, kind))

    assert split.problems == ()
    assert [(box.label, box.edges) for box in split.images[0].boxes] == [("cat", edges)]


def test_shapes_of_a_group_are_one_object(tmp_path: Path) -> None:
    split = read_shapes(
        tmp_path,
        shape([[0, 0], [5, 5]], group_id=1),
        shape([[10, 0], [15, 9]], group_id=1),
        shape([[10, 0], [15, 9]], group_id=2),
    )

    assert [box.edges for box in split.images[0].boxes] == [(0, 0, 15, 9), (10, 0, 5, 9)]
    assert split.num_listed_boxes == 2


@pytest.mark.parametrize(
    ("flawed", "code"),
    [
        (shape([[1, 1]], "point"), ProblemCode.BAD_VALUE),
        (shape(kind="line"), ProblemCode.BAD_VALUE),
        (shape(label=""), ProblemCode.MISSING_FIELD),
        (shape([[1, "x"], [2, 3]]), ProblemCode.BAD_NUMBER),
        (shape([[1, float("nan")], [2, 3]]), ProblemCode.BAD_NUMBER),
        (shape("everywhere"), ProblemCode.BAD_NUMBER),
        ("cat", ProblemCode.BAD_VALUE),
    ],
    ids=["point", "line", "no label", "text", "nan", "no points", "no shape"],
)
def test_what_is_no_box_is_reported_and_the_others_are_read(
    tmp_path: Path, flawed: Any, code: ProblemCode
) -> None:
    split = read_shapes(tmp_path, shape(), flawed)

    (problem,) = split.problems
    assert (problem.code, problem.location) == (code, "shapes[1]")
    assert len(split.images[0].boxes) == 1


@pytest.mark.parametrize("path", ["a.jpg", "..\\photos\\a.jpg", "C:\\photos\\a.jpg", "b.png", None])
def test_the_image_is_found_wherever_it_was(tmp_path: Path, path: str | None) -> None:
    split = read_shapes(tmp_path, shape(), imagePath=path)

    assert [image.name for image in split.images] == ["a.jpg"]


def test_a_size_that_is_missing_is_left_to_the_image(tmp_path: Path) -> None:
    split = read_shapes(tmp_path, shape(), imageWidth=None)

    assert split.images[0].size is None
    assert "1 images have no size" in split.notes[0]


def test_a_file_that_is_no_json_is_reported(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{")

    split = read_shapes(tmp_path, shape())

    assert [problem.code for problem in split.problems] == [ProblemCode.MALFORMED_FILE]
    assert len(split.images) == 1


@pytest.mark.parametrize("layout", ["{split}/{name}", "annotations/{split}/{name}"])
def test_folders_of_splits_are_recognized(tmp_path: Path, layout: str) -> None:
    for shade, (split, name) in enumerate((("train", "a"), ("val", "c"))):
        path = tmp_path / layout.format(split=split, name=f"{name}.json")
        write_labels(path, shape(), imagePath=f"{name}.jpg")
        write_image(path.with_suffix(".jpg"), shade=shade)

    detected = detect_layout(tmp_path)
    dataset = read_layout(detected, seeded=None)

    assert detected.format is AnnotationFormat.LABELME
    assert {name: len(split.images) for name, split in dataset.splits.items()} == {
        "train": 1,
        "val": 1,
    }


def test_images_in_another_folder_are_found(tmp_path: Path) -> None:
    for shade, name in enumerate("ab"):
        write_image(tmp_path / "images" / f"{name}.jpg", shade=shade)
        write_labels(
            tmp_path / "labels" / f"{name}.json", shape(), imagePath=f"..\\images\\{name}.jpg"
        )

    dataset = read_layout(detect_layout(tmp_path), seeded=None)

    names = {image.name for split in dataset.splits.values() for image in split.images}
    assert names == {"images/a.jpg", "images/b.jpg"}
