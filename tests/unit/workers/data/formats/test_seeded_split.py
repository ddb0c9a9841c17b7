"""Division of images into train and val by content and a seed."""

from collections import Counter
from pathlib import Path

import pytest

from workers.data.formats.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.formats.seeded_split import SeededSplit, split_by_seed
from workers.errors import DatasetError


def make_split(folder: Path, contents: dict[str, tuple[str, str]]) -> ParsedSplit:
    """A split of images by name, each with its content and the classes of its boxes."""
    images: list[ParsedImage] = []
    for number, (name, (content, labels)) in enumerate(contents.items()):
        (folder / name).write_text(content)
        boxes = tuple(ParsedBox("line 1", label, (0, 0, 9, 9)) for label in labels)
        images.append(ParsedImage(folder, "line 1", name, (9, 9), "line 1", boxes, number))
    num_boxes = sum(len(image.boxes) for image in images)
    return ParsedSplit(folder, folder, tuple(images), (), len(images), num_boxes)


def list_val(split: ParsedSplit, *, fraction: float = 0.2, seed: int = 0) -> set[str]:
    parts = split_by_seed(split, SeededSplit(fraction, seed))
    train, val = ({image.name for image in parts[name].images} for name in ("train", "val"))
    assert train | val == {image.name for image in split.images}
    assert not train & val
    assert sum(part.num_listed_boxes for part in parts.values()) == split.num_listed_boxes
    return val


def test_the_choice_depends_on_content_and_seed_alone(tmp_path: Path) -> None:
    contents = {f"{i}.png": (f"content {i}", "a") for i in range(50)}
    split = make_split(tmp_path, contents)
    reverse = make_split(tmp_path, dict(reversed(contents.items())))

    assert len(list_val(split)) == 10
    assert list_val(split) == list_val(reverse)
    assert list_val(split) != list_val(split, seed=1)


def test_copies_are_on_one_side(tmp_path: Path) -> None:
    contents = {f"{i}.png": (f"content {i // 5}", "a") for i in range(50)}

    val = list_val(make_split(tmp_path, contents))

    assert set(Counter(int(Path(name).stem) // 5 for name in val).values()) == {5}


def test_augmented_copies_of_roboflow_are_on_one_side(tmp_path: Path) -> None:
    contents = {f"cat{i // 3}_jpg.rf.{i:032x}.jpg": (f"content {i}", "a") for i in range(30)}

    val = list_val(make_split(tmp_path, contents))

    assert set(Counter(name.split("_")[0] for name in val).values()) == {3}


def test_each_class_is_in_both_parts(tmp_path: Path) -> None:
    contents = {f"{i}.png": (f"content {i}", "a") for i in range(100)}
    contents |= {f"rare{i}.png": (f"rare {i}", "ab") for i in range(3)}

    val = list_val(make_split(tmp_path, contents))

    assert 1 <= sum(name.startswith("rare") for name in val) < 3
    assert 18 <= len(val) <= 23


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_no_part_is_empty(tmp_path: Path, fraction: float) -> None:
    split = make_split(tmp_path, {f"{i}.png": (f"content {i}", "a") for i in range(5)})

    assert 1 <= len(list_val(split, fraction=fraction)) <= 4


def test_a_single_image_cannot_be_divided(tmp_path: Path) -> None:
    split = make_split(tmp_path, {"a.png": ("same", "a"), "b.png": ("same", "a")})

    with pytest.raises(DatasetError, match="fewer than two different images with boxes"):
        split_by_seed(split, SeededSplit())


def test_images_that_do_not_exist_are_divided_by_name(tmp_path: Path) -> None:
    split = make_split(tmp_path, {f"{i}.png": (f"content {i}", "a") for i in range(10)})
    for image in split.images:
        (tmp_path / image.name).unlink()

    assert len(list_val(split)) == 2
