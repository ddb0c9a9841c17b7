"""Parsing of COCO files, and the location of every problem."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.workers.dataset_folders import CocoFolder, coco_box, coco_image
from workers.data.formats.coco import read_coco
from workers.data.formats.parsed import ParsedSplit
from workers.data.problems import ProblemCode


@pytest.fixture
def coco(tmp_path: Path) -> CocoFolder:
    return CocoFolder(tmp_path)


def read(coco: CocoFolder) -> ParsedSplit:
    coco.save()
    return read_coco(coco.train_json, coco.root / "train")[0]


def list_codes_and_locations(split: ParsedSplit) -> list[tuple[ProblemCode, str]]:
    return [(problem.code, problem.location) for problem in split.problems]


def test_a_complete_file_is_read(coco: CocoFolder) -> None:
    coco.train["annotations"][1]["iscrowd"] = 1

    split = read(coco)

    assert split.problems == ()
    assert [(image.id, image.name, image.size) for image in split.images] == [
        (11, "a.png", (40, 30)),
        (12, "b.png", (40, 30)),
    ]
    (box,), (crowd,) = (image.boxes for image in split.images)
    assert (box.label, box.edges, box.area, box.is_crowd) == ("cat", (4, 4, 15, 20), 150.5, False)
    assert crowd.is_crowd


def test_classes_are_in_the_order_of_their_ids(coco: CocoFolder) -> None:
    coco.save()

    _, classes = read_coco(coco.train_json, coco.root / "train")

    assert classes == ("dog", "cat")


def test_unknown_fields_are_ignored(coco: CocoFolder) -> None:
    coco.train["licenses"] = []
    coco.train["annotations"][0] |= {"segmentation": [[1, 2, 3, 4]], "mood": "grim"}

    assert read(coco).problems == ()


def test_crowd_mark_and_area_may_be_left_out(coco: CocoFolder) -> None:
    for field in ("iscrowd", "area"):
        del coco.train["annotations"][0][field]

    (box,) = read(coco).images[0].boxes

    assert (box.is_crowd, box.area) == (False, None)


@pytest.mark.parametrize("area", [0, -1, float("nan"), float("inf"), "large", None, True])
def test_an_area_that_is_none_is_that_of_the_box(coco: CocoFolder, area: object) -> None:
    coco.train["annotations"][0]["area"] = area

    (box,) = read(coco).images[0].boxes

    assert box.area is None


@pytest.mark.parametrize(
    ("content", "location"),
    [
        (b'{"images": [],\n "annotations": [}', "line 2, column 18"),
        (b"", "line 1, column 1"),
        (b"[]", "whole file"),
        (b"\xff\xfe\x00", "whole file"),
        (b"[" * 200_000, "whole file"),
    ],
    ids=["cut", "empty", "a list", "no text", "too deep"],
)
def test_malformed_json_is_reported_with_its_line(
    coco: CocoFolder, content: bytes, location: str
) -> None:
    coco.train_json.write_bytes(content)

    split, classes = read_coco(coco.train_json, coco.root / "train")

    assert list_codes_and_locations(split) == [(ProblemCode.MALFORMED_FILE, location)]
    assert (split.images, classes) == ((), ())


def test_a_missing_file_is_a_problem(coco: CocoFolder) -> None:
    split, _ = read_coco(coco.root / "none.json", coco.root)

    assert list_codes_and_locations(split) == [(ProblemCode.MISSING_FILE, "whole file")]


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_missing_list_is_a_missing_field(coco: CocoFolder, key: str) -> None:
    del coco.train[key]

    assert (ProblemCode.MISSING_FIELD, "whole file") in list_codes_and_locations(read(coco))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_what_should_be_a_list_is_one(coco: CocoFolder, key: str) -> None:
    coco.train[key] = {"1": {}}

    assert (ProblemCode.MALFORMED_FILE, key) in list_codes_and_locations(read(coco))


MISSING_FIELD, BAD_VALUE = ProblemCode.MISSING_FIELD, ProblemCode.BAD_VALUE
ORPHAN = (ProblemCode.ORPHAN_ANNOTATION, "annotation 1")

CHANGED_FIELDS: dict[str, tuple[str, dict[str, Any], list[tuple[ProblemCode, str]]]] = {
    "an image without id": ("images", {"id": None}, [(MISSING_FIELD, "images[1]"), ORPHAN]),
    "an image without name": ("images", {"file_name": None}, [(MISSING_FIELD, "image 12")]),
    "a height in words": ("images", {"height": "tall"}, [(BAD_VALUE, "image 12")]),
    "an image id that is a list": ("images", {"id": [12]}, [(BAD_VALUE, "images[1]"), ORPHAN]),
    "an image id with a fraction": ("images", {"id": 12.5}, [(BAD_VALUE, "images[1]"), ORPHAN]),
    "an image id that is true": ("images", {"id": True}, [(BAD_VALUE, "images[1]"), ORPHAN]),
    "an empty name": ("images", {"file_name": ""}, [(BAD_VALUE, "image 12")]),
    "a box without id": ("annotations", {"id": None}, [(MISSING_FIELD, "annotations[1]")]),
    "a box without edges": ("annotations", {"bbox": None}, [(MISSING_FIELD, "annotation 1")]),
    "a box without class": (
        "annotations",
        {"category_id": None},
        [(MISSING_FIELD, "annotation 1")],
    ),
    "a box of no image": ("annotations", {"image_id": 99}, [ORPHAN]),
    "a crowd of 2": ("annotations", {"iscrowd": 2}, [(BAD_VALUE, "annotation 1")]),
    "a class without name": ("categories", {"name": None}, [(MISSING_FIELD, "category 3")]),
}
ADDED_ENTRIES: dict[str, tuple[str, object, tuple[ProblemCode, str]]] = {
    "an image that is a word": ("images", "c.png", (BAD_VALUE, "images[2]")),
    "an image id twice": (
        "images",
        coco_image(11, "c.png"),
        (ProblemCode.DUPLICATE_IMAGE_ID, "image 11"),
    ),
    "a box id twice": (
        "annotations",
        coco_box(1, 11),
        (ProblemCode.DUPLICATE_ANNOTATION_ID, "annotation 1"),
    ),
    "a class id twice": (
        "categories",
        {"id": 7, "name": "cow"},
        (ProblemCode.DUPLICATE_CLASS, "category 7"),
    ),
}


@pytest.mark.parametrize(
    ("key", "changes", "expected"), CHANGED_FIELDS.values(), ids=CHANGED_FIELDS.keys()
)
def test_a_flawed_entry_is_reported_with_its_id(
    coco: CocoFolder, key: str, changes: dict[str, Any], expected: list[tuple[ProblemCode, str]]
) -> None:
    entry = coco.train[key][1]
    for field, value in changes.items():
        if value is None:
            del entry[field]
        else:
            entry[field] = value

    assert list_codes_and_locations(read(coco)) == expected


@pytest.mark.parametrize(
    ("key", "entry", "expected"), ADDED_ENTRIES.values(), ids=ADDED_ENTRIES.keys()
)
def test_an_entry_too_many_is_reported_with_its_id(
    coco: CocoFolder, key: str, entry: object, expected: tuple[ProblemCode, str]
) -> None:
    coco.train[key].append(entry)

    assert list_codes_and_locations(read(coco)) == [expected]


@pytest.mark.parametrize("mark", [0, 1, True, False])
def test_a_crowd_mark_may_be_a_truth_value(coco: CocoFolder, mark: object) -> None:
    coco.train["annotations"][0]["iscrowd"] = mark

    split = read(coco)

    assert split.problems == ()
    assert split.images[0].boxes[0].is_crowd is bool(mark)


@pytest.mark.parametrize(
    "bbox",
    [
        [4, 4, 15],
        [4, 4, 15, 20, 3],
        [4, 4, 15, "wide"],
        [4, 4, 15, None],
        [4, 4, 15, True],
        [4, 4, 15, float("nan")],
        [4, float("inf"), 15, 20],
        "4 4 15 20",
        {"x": 4},
    ],
    ids=repr,
)
def test_a_box_of_other_than_four_finite_numbers_is_reported_once(
    coco: CocoFolder, bbox: object
) -> None:
    coco.train["annotations"][1]["bbox"] = bbox

    split = read(coco)

    assert list_codes_and_locations(split) == [(ProblemCode.BAD_NUMBER, "annotation 1")]
    assert [len(image.boxes) for image in split.images] == [1, 0]


def test_annotations_of_a_flawed_image_are_no_orphans(coco: CocoFolder) -> None:
    del coco.train["images"][0]["file_name"]

    split = read(coco)

    assert list_codes_and_locations(split) == [(ProblemCode.MISSING_FIELD, "image 11")]
    assert [image.id for image in split.images] == [12]


def test_a_class_name_with_boxes_of_two_ids_is_a_problem(coco: CocoFolder) -> None:
    coco.train["categories"].append({"id": 8, "name": "cat"})
    coco.train["annotations"][1]["category_id"] = 8

    assert list_codes_and_locations(read(coco)) == [(ProblemCode.DUPLICATE_CLASS, "category 8")]


def test_two_images_with_one_id_are_both_dropped(coco: CocoFolder) -> None:
    coco.train["images"].append(coco_image(11, "c.png"))

    assert [image.id for image in read(coco).images] == [12]


def test_a_repeated_image_is_used_once(coco: CocoFolder) -> None:
    coco.train["images"].append(coco_image(11, "a.png"))

    split = read(coco)

    assert list_codes_and_locations(split) == [(ProblemCode.DUPLICATE_IMAGE_ID, "image 11")]
    assert [image.id for image in split.images] == [11, 12]


@pytest.mark.parametrize(
    ("image_id", "reference"),
    [("11", 11), (11.0, 11), (11, "11"), (11, 11.0), ("11.0", "11"), (" 11 ", 11), ("011", 11)],
    ids=repr,
)
def test_an_id_may_be_written_in_several_ways(
    coco: CocoFolder, image_id: object, reference: object
) -> None:
    coco.train["images"][0]["id"] = image_id
    coco.train["annotations"][0]["image_id"] = reference

    split = read(coco)

    assert split.problems == ()
    assert [len(image.boxes) for image in split.images] == [1, 1]


def test_texts_that_are_no_numbers_are_ids(coco: CocoFolder) -> None:
    for image, box in zip(coco.train["images"], coco.train["annotations"], strict=True):
        image["id"] = box["image_id"] = f"frame-{image['id']}"
        box["id"] = f"box-{box['id']}"

    split = read(coco)

    assert split.problems == ()
    assert [len(image.boxes) for image in split.images] == [1, 1]


def test_ids_that_differ_in_zeros_are_texts(coco: CocoFolder) -> None:
    for image, box, key in zip(
        coco.train["images"], coco.train["annotations"], ("7", "007"), strict=True
    ):
        image["id"] = box["image_id"] = key

    split = read(coco)

    assert split.problems == ()
    assert [len(image.boxes) for image in split.images] == [1, 1]


def test_two_spellings_of_an_id_are_a_duplicate(coco: CocoFolder) -> None:
    coco.train["images"][1]["id"] = "11.0"
    coco.train["annotations"].pop()

    assert list_codes_and_locations(read(coco)) == [(ProblemCode.DUPLICATE_IMAGE_ID, "image 11")]


def test_numbers_may_be_texts(coco: CocoFolder) -> None:
    coco.train["images"][0] |= {"width": "40", "height": 30.0}
    coco.train["annotations"][0] |= {"bbox": ["4", 4, "15.0", 20], "iscrowd": "0"}

    split = read(coco)

    assert split.problems == ()
    assert split.images[0].size == (40, 30)
    assert split.images[0].boxes[0].edges == (4, 4, 15, 20)


@pytest.mark.parametrize(
    "size", [{"width": 0, "height": 0}, {"width": None, "height": None}, {"width": ""}, {}], ids=str
)
def test_a_size_that_is_not_known_is_left_to_the_image(
    coco: CocoFolder, size: dict[str, Any]
) -> None:
    image = coco.train["images"][0]
    del image["width"], image["height"]
    image |= size

    split = read(coco)

    assert split.problems == ()
    assert [item.size for item in split.images] == [None, (40, 30)]
    assert "1 images have no size" in split.notes[0]


@pytest.mark.parametrize(
    ("categories", "classes"),
    [
        ([("pets", 0, "none"), ("cat", 7, "pets"), ("dog", 3, "pets")], ("dog", "cat")),
        ([("cat", 0, "none"), ("cat", 7, "cat")], ("cat",)),
        ([("pets", 5, "None"), ("cat", 7, "pets")], ("cat",)),
        ([("cat", 0, "none"), ("cat", 7, "none")], ("cat",)),
        ([("dog", 0, "none"), ("cat", 7, "none")], ("dog", "cat")),
        ([("dog", 0, "animal"), ("cat", 7, "animal")], ("dog", "cat")),
        ([("cat", 7, "none"), ("kitten", 8, "cat")], ("cat", "kitten")),
        ([("cat", 7, "none")], ("cat",)),
    ],
    ids=["root", "its name", "other id", "same name", "no root", "no none", "used root", "alone"],
)
def test_a_root_without_boxes_is_no_class(
    coco: CocoFolder, categories: list[tuple[str, int, str]], classes: tuple[str, ...]
) -> None:
    coco.train["categories"] = [
        {"name": name, "id": key, "supercategory": parent} for name, key, parent in categories
    ]
    coco.save()

    split, names = read_coco(coco.train_json, coco.root / "train")

    assert (split.problems, names) == ((), classes)
    assert {box.label for image in split.images for box in image.boxes} == {"cat"}


def test_class_names_may_be_numbers_and_have_blanks(coco: CocoFolder) -> None:
    coco.train["categories"] = [{"id": 7, "name": 3}, {"id": 8, "name": " cat "}]
    coco.save()

    assert read_coco(coco.train_json, coco.root / "train")[1] == ("3", "cat")


def test_a_name_that_could_be_two_files_is_shown_with_escapes(coco: CocoFolder) -> None:
    coco.save()
    for name in ("\uff41.png", "a\u200b.png"):
        (coco.root / "train" / name).write_bytes(b"")
    (coco.root / "train" / "a.png").unlink()

    (problem,) = read(coco).problems

    assert (problem.code, problem.location) == (ProblemCode.MISSING_IMAGE, "image 11")
    assert "a\\u200b.png" in problem.message
