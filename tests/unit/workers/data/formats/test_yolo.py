"""YOLO's labels in the layouts of Ultralytics, Roboflow, darknet and CVAT."""

from pathlib import Path

import pytest

from tests.support.workers.dataset_folders import SIZE, write_image
from workers.data.formats.layouts import ParsedDataset, detect_layout, read_layout
from workers.data.formats.parsed import ParsedSplit
from workers.data.formats.yolo import YoloFiles, read_yolo
from workers.data.formats.yolo_layout import read_yolo_description
from workers.data.problems import ProblemCode
from workers.errors import DatasetError

BOX = "0 0.5 0.5 0.25 0.5"


def add(root: Path, image: str, label: str, *lines: str, shade: int = 0) -> None:
    write_image(root / image, shade=shade)
    (root / label).parent.mkdir(parents=True, exist_ok=True)
    (root / label).write_text("\n".join(lines) + "\n", encoding="utf-8")


def add_splits(root: Path, pattern: str = "{kind}/{split}/{name}", train: str = "train") -> None:
    """Write training images a and b, and validation image c."""
    for shade, (split, name) in enumerate(((train, "a"), (train, "b"), ("val", "c"))):
        image = pattern.format(kind="images", split=split, name=f"{name}.jpg")
        label = pattern.format(kind="labels", split=split, name=f"{name}.txt")
        add(root, image, label, BOX, shade=shade)


def describe(root: Path, text: str, name: str = "data.yaml") -> Path:
    path = root / name
    path.write_text(text, encoding="utf-8")
    return path


def read_lines(tmp_path: Path, *lines: str, has_keypoints: bool = False) -> ParsedSplit:
    add(tmp_path, "images/a.jpg", "labels/a.txt", *lines)
    files = YoloFiles(
        tmp_path, tmp_path, (tmp_path / "images",), ("cat", "dog"), has_keypoints=has_keypoints
    )
    return read_yolo(files)


def read(root: Path) -> ParsedDataset:
    return read_layout(detect_layout(root), seeded=None)


def check(dataset: ParsedDataset, classes: tuple[str, ...] = ("cat",)) -> None:
    """Training images a and b and validation image c, each with one box."""
    names = {
        name: sorted(Path(image.name).stem for image in split.images)
        for name, split in dataset.splits.items()
    }
    assert names == {"train": ["a", "b"], "val": ["c"]}
    for split in dataset.splits.values():
        assert split.problems == ()
        assert all((split.images_dir / image.name).is_file() for image in split.images)
        assert all(len(image.boxes) == 1 for image in split.images)
    assert dataset.classes == classes


def test_boxes_are_in_pixels_once_the_size_is_known(tmp_path: Path) -> None:
    (image,) = read_lines(tmp_path, "1 0.5 0.5 0.25 0.5").images

    assert image.size is None
    scaled = image.scale_to(SIZE)
    assert scaled.size == SIZE
    assert [(box.label, box.edges) for box in scaled.boxes] == [("dog", (15, 7.5, 10, 15))]


@pytest.mark.parametrize(
    ("line", "edges"),
    [
        ("0 0.1 0.1 0.3 0.1 0.3 0.6", (4, 3, 8, 15)),
        ("0 0.1 0.1 0.3 0.1 0.3 0.6 0.1 0.6", (4, 3, 8, 15)),
        ("0.0 0.5 0.5 0.25 0.5", (15, 7.5, 10, 15)),
        ("0\t0.5  0.5 0.25 0.5 ", (15, 7.5, 10, 15)),
    ],
    ids=["triangle", "quadrangle", "class with a point", "tabs"],
)
def test_outlines_become_boxes(
    tmp_path: Path, line: str, edges: tuple[float, float, float, float]
) -> None:
    (image,) = read_lines(tmp_path, line).images

    assert image.scale_to(SIZE).boxes[0].edges == pytest.approx(edges)


def test_keypoints_are_left_out_where_the_description_says_so(tmp_path: Path) -> None:
    split = read_lines(tmp_path, f"{BOX} 0.4 0.4 2 0.6 0.6 2", has_keypoints=True)

    assert split.problems == ()
    assert split.images[0].scale_to(SIZE).boxes[0].edges == (15, 7.5, 10, 15)


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("0 0.5 0.5 0.25", ProblemCode.BAD_VALUE, "4 columns"),
        (f"{BOX} 0.9", ProblemCode.BAD_VALUE, "score of a prediction"),
        ("cat 0.5 0.5 0.2 0.2", ProblemCode.BAD_VALUE, "'cat'"),
        ("0.5 0.5 0.5 0.2 0.2", ProblemCode.BAD_VALUE, "'0.5'"),
        ("0 0.5 wide 0.2 0.2", ProblemCode.BAD_NUMBER, "'wide'"),
        ("0 0.5 nan 0.2 0.2", ProblemCode.BAD_NUMBER, "'nan'"),
        ("0 120 80 40 30", ProblemCode.BAD_NUMBER, "pixels"),
    ],
    ids=str,
)
def test_a_bad_line_is_reported_and_the_others_are_read(
    tmp_path: Path, line: str, code: ProblemCode, text: str
) -> None:
    split = read_lines(tmp_path, BOX, line)

    (problem,) = split.problems
    assert (problem.code, problem.location) == (code, "line 2")
    assert text in problem.message
    assert (len(split.images[0].boxes), split.num_listed_boxes) == (1, 2)


def test_a_class_without_a_name_is_an_unknown_one(tmp_path: Path) -> None:
    (image,) = read_lines(tmp_path, "7 0.5 0.5 0.2 0.2").images

    assert image.boxes[0].label == "class 7"


def test_repeated_lines_are_read_once_and_noted(tmp_path: Path) -> None:
    split = read_lines(tmp_path, BOX, BOX)

    assert len(split.images[0].boxes) == 1
    assert split.notes == ("1 lines of labels repeat a line of the same file; left out.",)


def test_images_without_labels_have_no_objects(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "empty.jpg", shade=3)

    split = read_lines(tmp_path, BOX)

    assert [len(image.boxes) for image in split.images] == [1, 0]
    assert "first 'images/empty.jpg'" in split.notes[0]


def test_no_labels_at_all_are_a_problem_that_says_where_they_are_expected(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.jpg")

    (problem,) = read_yolo(YoloFiles(tmp_path, tmp_path, (tmp_path / "images",), ("cat",))).problems

    assert problem.code is ProblemCode.MISSING_FILE
    assert "labels/a.txt" in problem.message


@pytest.mark.parametrize("names", ["[cat]", "{0: cat}", "{'0': ' cat '}", "\n  - cat"], ids=str)
def test_names_are_a_list_or_a_mapping(tmp_path: Path, names: str) -> None:
    add_splits(tmp_path)
    describe(tmp_path, f"train: images/train\nval: images/val\nnc: 1\nnames: {names}\n")

    check(read(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images/train\nval: images/val",
        "path: ../datasets/pets\ntrain: images/train\nval: images/val",
        "path: /content/pets\ntrain: images/train\nval: images/val",
        "train: ../images/train\nval: ../images/val",
        "train: /home/me/pets/images/train\nval: /home/me/pets/images/val",
        "train: C:\\pets\\images\\train\nval: C:\\pets\\images\\val",
        "train: [images/train]\nval: [images/val]",
        "train: ./images/train/\nvalid: pets/images/val\ntest: images/test",
    ],
    ids=["path", "datasets", "colab", "roboflow", "absolute", "windows", "lists", "prefix"],
)
def test_folders_of_a_description_are_found(tmp_path: Path, text: str) -> None:
    add_splits(tmp_path)
    describe(tmp_path, f"{text}\nnames: [cat]\n")

    check(read(tmp_path))


@pytest.mark.parametrize("prefix", ["./", "", "/home/me/pets/", "pets/", "C:\\pets\\"])
def test_lists_of_images_are_read(tmp_path: Path, prefix: str) -> None:
    add_splits(tmp_path)
    lines = [f"{prefix}images/train/a.jpg", f"{prefix}images/train/b.jpg"]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "val.txt").write_text(f"{prefix}images/val/c.jpg\n")
    describe(tmp_path, "train: train.txt\nval: [val.txt]\nnames: [cat]")

    check(read(tmp_path))


def test_several_folders_are_one_split(tmp_path: Path) -> None:
    add(tmp_path, "one/images/a.jpg", "one/labels/a.txt", BOX)
    add(tmp_path, "two/images/b.jpg", "two/labels/b.txt", BOX, shade=1)
    add(tmp_path, "val/c.jpg", "val/c.txt", BOX, shade=2)
    describe(tmp_path, "train: [one/images, two/images]\nval: val\nnames: [cat]")

    check(read(tmp_path))


@pytest.mark.parametrize(
    "pattern",
    ["{kind}/{split}/{name}", "{split}/{kind}/{name}", "{split}/{name}"],
    ids=["ultralytics", "roboflow", "beside"],
)
def test_folders_without_a_description_are_recognized(tmp_path: Path, pattern: str) -> None:
    add_splits(tmp_path, pattern)
    (tmp_path / "classes.txt").write_text("cat\n")

    check(read(tmp_path))


def test_classes_without_names_are_numbers(tmp_path: Path) -> None:
    add_splits(tmp_path)

    check(read(tmp_path), classes=("0",))


def test_the_export_of_cvat_for_darknet_is_divided(tmp_path: Path) -> None:
    for shade, name in enumerate("abc"):
        add(tmp_path, f"obj_train_data/{name}.jpg", f"obj_train_data/{name}.txt", BOX, shade=shade)
    lines = [f"data/obj_train_data/{name}.jpg" for name in "abc"]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "obj.names").write_text("cat\n")
    describe(
        tmp_path,
        "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        name="obj.data",
    )

    dataset = read(tmp_path)

    assert sum(len(split.images) for split in dataset.splits.values()) == 3
    assert all(split.problems == () for split in dataset.splits.values())


def test_a_missing_folder_of_a_description_is_named(tmp_path: Path) -> None:
    add_splits(tmp_path)
    path = describe(tmp_path, "train: images/train\nval: images/nowhere\nnames: [cat]")

    with pytest.raises(DatasetError, match=r"names 'images/nowhere', which does not exist"):
        read_yolo_description(path)


def test_a_folder_elsewhere_needs_the_option(tmp_path: Path) -> None:
    add_splits(tmp_path / "elsewhere")
    (tmp_path / "here").mkdir()
    path = describe(
        tmp_path / "here",
        f"path: {tmp_path}/elsewhere\ntrain: images/train\nval: images/val\nnames: [cat]",
    )

    with pytest.raises(DatasetError, match=r"outside of .*--root"):
        read_yolo_description(path)

    assert set(read_yolo_description(path, tmp_path / "elsewhere")) == {"train", "val"}


@pytest.mark.parametrize("text", ["", "[1, 2]", "names: [cat]", "train: x", "a: [", "train: !!x y"])
def test_what_is_no_description_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DatasetError, match="not a description of a YOLO dataset"):
        read_yolo_description(describe(tmp_path, text))


def test_labels_that_link_elsewhere_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(BOX)
    add(tmp_path / "set", "images/a.jpg", "labels/b.txt", BOX)
    (tmp_path / "set" / "labels" / "a.txt").symlink_to(secret)
    root = tmp_path / "set"

    (problem,) = read_yolo(YoloFiles(root, root, (root / "images",), ("cat",))).problems

    assert problem.code is ProblemCode.UNSAFE_PATH
