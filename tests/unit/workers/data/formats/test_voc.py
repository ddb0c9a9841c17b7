"""Parsing of Pascal VOC folders, and the location of every problem."""

from pathlib import Path

import pytest

from tests.support.workers.dataset_folders import VOC_BOX, VocFolder, voc_object, voc_xml
from workers.data.formats.voc import find_voc_files, read_voc, read_voc_files
from workers.data.problems import Problem, ProblemCode


@pytest.fixture
def voc(tmp_path: Path) -> VocFolder:
    return VocFolder(tmp_path)


def get_only_problem(voc: VocFolder) -> Problem:
    (problem,) = read_voc(voc.root, "train").problems
    return problem


def test_a_complete_folder_is_read(voc: VocFolder) -> None:
    draft = read_voc(voc.root, "train")

    assert draft.problems == ()
    assert [image.name for image in draft.images] == ["a.jpg", "b.jpg"]
    assert draft.images[0].size == (40, 30)
    assert (draft.num_listed_images, draft.num_listed_boxes) == (2, 2)


def test_boxes_are_converted_as_mmdet_does(voc: VocFolder) -> None:
    voc.annotate("a", voc_xml(voc_object("cat", (1, 1, 40, 30))))

    (box,) = read_voc(voc.root, "train").images[0].boxes

    assert box.edges == (0, 0, 39, 29)


def test_difficult_objects_become_crowd_boxes(voc: VocFolder) -> None:
    voc.annotate("a", voc_xml(voc_object(difficult=1), voc_object(difficult=0)))

    image = read_voc(voc.root, "train").images[0]

    assert [box.is_crowd for box in image.boxes] == [True, False]


def test_parts_of_an_object_are_no_objects(voc: VocFolder) -> None:
    part = "<part><name>head</name><bndbox><xmin>6</xmin></bndbox></part></object>"
    voc.annotate("a", voc_xml(voc_object().replace("</object>", part)))

    draft = read_voc(voc.root, "train")

    assert draft.problems == ()
    assert [box.label for box in draft.images[0].boxes] == ["cat"]


def test_lists_of_one_class_are_read(voc: VocFolder) -> None:
    voc.write_list("train", "a  1", "b -1", "")

    assert [image.name for image in read_voc(voc.root, "train").images] == ["a.jpg", "b.jpg"]


def test_an_image_may_have_another_ending(voc: VocFolder) -> None:
    voc.image("a").rename(voc.image("a").with_suffix(".png"))

    assert read_voc(voc.root, "train").images[0].name == "a.png"


def test_a_missing_list_is_a_problem(voc: VocFolder) -> None:
    (problem,) = read_voc(voc.root, "test").problems

    assert problem.code is ProblemCode.MISSING_FILE
    assert problem.file.endswith("test.txt")


def test_a_missing_annotation_names_the_line_of_the_list(voc: VocFolder) -> None:
    voc.xml("b").unlink()

    problem = get_only_problem(voc)

    assert (problem.code, problem.location) == (ProblemCode.MISSING_FILE, "line 2")
    assert problem.file.endswith("train.txt")


def test_an_image_that_is_listed_twice_is_read_once(voc: VocFolder) -> None:
    voc.write_list("train", "a", "b", "a")

    problem = get_only_problem(voc)

    assert (problem.code, problem.location) == (ProblemCode.DUPLICATE_FILE_NAME, "line 3")
    assert len(read_voc(voc.root, "train").images) == 2


@pytest.mark.parametrize("name", ["../c", "/etc/passwd", "deep/../../../c"])
def test_a_listed_name_that_leads_out_is_refused(voc: VocFolder, name: str) -> None:
    voc.write_list("train", "a", name)

    problem = get_only_problem(voc)

    assert (problem.code, problem.location) == (ProblemCode.UNSAFE_PATH, "line 2")


def test_an_annotation_that_links_elsewhere_is_refused(voc: VocFolder) -> None:
    (voc.root / "secret.xml").write_text(voc_xml())
    voc.xml("b").unlink()
    voc.xml("b").symlink_to(voc.root / "secret.xml")

    assert get_only_problem(voc).code is ProblemCode.UNSAFE_PATH


@pytest.mark.parametrize(
    ("xml", "line"),
    [
        ("<annotation>\n<size>\n</annotation>", 3),
        ("", 1),
        ("<annotation>\n\n<object>", 3),
        ("<html>\n</html>", 1),
        ('<?xml version="1.0" encoding="klingon"?>\n<annotation/>', 1),
    ],
    ids=["unbalanced", "empty", "cut short", "something else", "unknown encoding"],
)
def test_malformed_xml_is_reported_with_its_line(voc: VocFolder, xml: str, line: int) -> None:
    voc.annotate("a", xml)

    problem = get_only_problem(voc)

    assert (problem.code, problem.location) == (ProblemCode.MALFORMED_FILE, f"line {line}")
    assert problem.file.endswith("a.xml")
    assert problem.image == "a.jpg"


@pytest.mark.parametrize(
    "declaration",
    ['<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]>', "<!DOCTYPE annotation>"],
)
def test_entities_are_refused_before_they_are_read(voc: VocFolder, declaration: str) -> None:
    voc.annotate("a", f"\n{declaration}\n".strip() + voc_xml(voc_object("&y;")))

    problem = get_only_problem(voc)

    assert problem.code is ProblemCode.MALFORMED_FILE
    assert "DOCTYPE" in problem.message


@pytest.mark.parametrize(
    ("flawed", "line", "code"),
    [
        (voc_object().replace("<name>cat</name>", ""), 4, ProblemCode.MISSING_FIELD),
        (voc_object(name=" "), 5, ProblemCode.MISSING_FIELD),
        (voc_object().replace("bndbox", "box"), 4, ProblemCode.MISSING_FIELD),
        (voc_object().replace("xmax", "xend"), 6, ProblemCode.MISSING_FIELD),
        (voc_object(box=(5, 5, "wide", 25)), 6, ProblemCode.BAD_NUMBER),
        (voc_object(box=(5, "nan", 20, 25)), 6, ProblemCode.BAD_NUMBER),
        (voc_object(box=(5, 5, 20, "inf")), 6, ProblemCode.BAD_NUMBER),
        (voc_object(difficult="perhaps"), 5, ProblemCode.BAD_VALUE),
    ],
    ids=["no name", "empty name", "no box", "no edge", "word", "nan", "infinite", "difficult"],
)
def test_a_flawed_object_is_reported_with_its_line(
    voc: VocFolder, flawed: str, line: int, code: ProblemCode
) -> None:
    voc.annotate("a", voc_xml(flawed, voc_object("dog")))

    draft = read_voc(voc.root, "train")

    (problem,) = draft.problems
    assert (problem.code, problem.location) == (code, f"line {line}")
    assert [box.label for box in draft.images[0].boxes] == ["dog"]
    assert draft.num_listed_boxes == 3


def test_two_flaws_of_an_object_are_two_problems(voc: VocFolder) -> None:
    voc.annotate("a", voc_xml(voc_object(box=("x", 5, 20, "y"))))

    assert [problem.code for problem in read_voc(voc.root, "train").problems] == [
        ProblemCode.BAD_NUMBER,
        ProblemCode.BAD_NUMBER,
    ]


@pytest.mark.parametrize("size", [("broad", 30), (40, "high"), ("nan", 30)], ids=str)
def test_a_size_in_words_is_reported(voc: VocFolder, size: tuple[object, object]) -> None:
    voc.annotate("a", voc_xml(voc_object(), size=size))

    problem = get_only_problem(voc)

    assert (problem.code, problem.location) == (ProblemCode.BAD_NUMBER, "line 3")


@pytest.mark.parametrize("size", [(0, 0), (40, 0), ("", ""), (-1, -1), ("0", 30)], ids=str)
def test_a_size_that_is_not_known_is_left_to_the_image(
    voc: VocFolder, size: tuple[object, object]
) -> None:
    voc.annotate("a", voc_xml(voc_object(), size=size))

    split = read_voc(voc.root, "train")

    assert split.problems == ()
    assert [image.size for image in split.images] == [None, (40, 30)]
    assert "1 images have no size" in split.notes[0]


def test_a_missing_size_is_left_to_the_image(voc: VocFolder) -> None:
    voc.annotate("a", f"<annotation>\n{voc_object(box=VOC_BOX)}\n</annotation>")

    split = read_voc(voc.root, "train")

    assert (split.problems, split.images[0].size) == ((), None)


@pytest.mark.parametrize(
    ("written", "is_crowd"),
    [("Unspecified", False), ("", False), ("true", True), ("False", False), ("1", True)],
)
def test_difficult_may_be_written_in_words(voc: VocFolder, written: str, is_crowd: bool) -> None:
    voc.annotate("a", voc_xml(voc_object(difficult=written)))

    split = read_voc(voc.root, "train")

    assert split.problems == ()
    assert [box.is_crowd for box in split.images[0].boxes] == [is_crowd]


@pytest.mark.parametrize("line", ["scan 1", "scan 1 ", "scan 1 -1", "scan 1.jpg", "scan 1.JPG"])
def test_the_file_of_the_complete_line_wins(voc: VocFolder, line: str) -> None:
    voc.add("scan", voc_object("dog"), shade=7)
    voc.add("scan 1", voc_object("cat"), shade=8)
    voc.write_list("train", line)

    split = read_voc(voc.root, "train")

    assert split.problems == ()
    assert [image.name for image in split.images] == ["scan 1.jpg"]


@pytest.mark.parametrize("name", ["two  blanks", " leading", "0", "a 0 b", "tab\tinside"])
def test_blanks_in_names_stay(voc: VocFolder, name: str) -> None:
    voc.add(name, voc_object(), shade=7)
    voc.write_list("train", name)

    assert [image.name for image in read_voc(voc.root, "train").images] == [f"{name}.jpg"]


@pytest.mark.parametrize(
    "line", ["a.jpg", "JPEGImages/a.jpg", "/home/pi/set/JPEGImages/a.jpg", "C:\\set\\a.jpg", "A"]
)
def test_lists_with_endings_and_folders_are_read(voc: VocFolder, line: str) -> None:
    voc.write_list("train", line)

    split = read_voc(voc.root, "train")

    assert split.problems == ()
    assert [image.name for image in split.images] == ["a.jpg"]


def test_two_lines_of_one_file_are_read_once(voc: VocFolder) -> None:
    voc.write_list("train", "a", "a.jpg")

    assert get_only_problem(voc).code is ProblemCode.DUPLICATE_FILE_NAME


@pytest.mark.parametrize("ending", [".tif", ".webp", ".Jpg", ".JPEG", ".tiff", ".PNG"])
def test_images_are_found_whatever_their_ending(voc: VocFolder, ending: str) -> None:
    voc.image("a").rename(voc.image("a").with_suffix(ending))

    assert read_voc(voc.root, "train").images[0].name == f"a{ending}"


def test_the_file_name_in_the_annotation_decides_between_two_endings(voc: VocFolder) -> None:
    voc.image("a").with_suffix(".png").write_bytes(voc.image("a").read_bytes())
    voc.annotate("a", voc_xml(voc_object()).replace("whatever.jpg", "a.png"))

    assert read_voc(voc.root, "train").images[0].name == "a.png"


def test_folders_may_have_other_names(voc: VocFolder) -> None:
    voc.xml("a").parent.rename(voc.root / "annotations")
    voc.image("a").parent.rename(voc.root / "images")
    (voc.root / "ImageSets").rename(voc.root / "imagesets")

    split = read_voc(voc.root, "train")

    assert split.problems == ()
    assert (split.images_dir, len(split.images)) == (voc.root / "images", 2)


def test_annotations_beside_images_need_no_list(voc: VocFolder) -> None:
    folder = voc.root / "mixed"
    folder.mkdir()
    for name in "ab":
        voc.xml(name).rename(folder / f"{name}.xml")
        voc.image(name).rename(folder / f"{name}.JPG")
    (folder / "c.jpg").write_bytes((folder / "a.JPG").read_bytes())

    split = read_voc_files(find_voc_files(folder))

    assert split.problems == ()
    assert [image.name for image in split.images] == ["a.JPG", "b.JPG"]
    assert split.notes == ("1 images have no XML file and are left out, first 'c.jpg'.",)
