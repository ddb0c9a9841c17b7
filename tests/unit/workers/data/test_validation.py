"""What is checked of images and boxes, and what may be allowed."""

from pathlib import Path

import pytest

from tests.support.workers.dataset_folders import SIZE, write_image
from workers.data.formats.parsed import ParsedBox, ParsedImage, ParsedSplit
from workers.data.manifest import SplitName
from workers.data.problems import Problem, ProblemCode
from workers.data.validation import ValidatedSplits, ValidationOptions, validate_splits

DEFAULT = ValidationOptions()
CLIP = ValidationOptions(clip=True)
BOX = (4.0, 4.0, 15.0, 20.0)

Edges = tuple[float, float, float, float]


class Splits:
    """Train and val with the given boxes in one image each, and further images in train."""

    def __init__(self, root: Path, *boxes: ParsedBox, more: tuple[str, ...] = ()) -> None:
        self.root = root
        for shade, name in enumerate(("train/a.png", "val/a.png")):
            write_image(root / name, shade=shade)
        names = ("a.png", *more)
        self.parsed: dict[SplitName, ParsedSplit] = {
            "train": self.describe("train", *names, boxes=boxes),
            "val": self.describe("val", "a.png", boxes=(ParsedBox("annotation 1", "cat", BOX),)),
        }

    def describe(self, split: str, *names: str, boxes: tuple[ParsedBox, ...]) -> ParsedSplit:
        file = self.root / f"{split}.json"
        images = tuple(
            ParsedImage(
                file,
                f"image {number}",
                name,
                SIZE,
                f"image {number}",
                boxes=boxes if number == 1 else (),
                id=number,
            )
            for number, name in enumerate(names, start=1)
        )
        return ParsedSplit(file, self.root / split, images, (), len(images), len(boxes))

    def validate(self, options: ValidationOptions = DEFAULT) -> ValidatedSplits:
        return validate_splits(self.parsed, frozenset({"cat"}), options=options)


def box(edges: Edges, *, label: str = "cat", area: float | None = None) -> ParsedBox:
    return ParsedBox("annotation 9", label, edges, area=area)


GOOD = ParsedBox("annotation 1", "cat", BOX)


@pytest.mark.parametrize(
    ("edges", "clipped"),
    [
        ((-3, 10, 40, 10), (0, 10, 37, 10)),
        ((30, 20, 500, 500), (30, 20, 10, 10)),
        ((-9, -9, 99, 99), (0, 0, 40, 30)),
    ],
    ids=["left", "corner", "all around"],
)
def test_a_box_that_reaches_out_is_clipped_if_that_is_allowed(
    tmp_path: Path, edges: Edges, clipped: Edges
) -> None:
    splits = Splits(tmp_path, GOOD, box(edges, area=123_456.0))

    validated = splits.validate(CLIP)

    (image,) = validated.images["train"]
    assert validated.problems == ()
    assert image.parsed.boxes[1].edges == clipped
    assert image.parsed.boxes[1].area == clipped[2] * clipped[3]
    assert (image.num_clippable, image.num_dropped, validated.num_trimmed) == (1, 0, 0)


@pytest.mark.parametrize("edges", [(-3, 10, 40, 10), (30, 20, 500, 500)], ids=repr)
def test_a_box_that_could_be_clipped_is_counted(tmp_path: Path, edges: Edges) -> None:
    (image,) = Splits(tmp_path, GOOD, box(edges)).validate().images["train"]

    assert (image.num_clippable, image.num_dropped) == (1, 1)


@pytest.mark.parametrize(
    "outside",
    [box((50, 4, 9, 9)), box((-20, 4, 20.5, 9)), box((-3, 4, 9, 9), label="dog")],
    ids=["beside", "half a pixel", "unknown class"],
)
def test_a_box_of_which_clipping_leaves_nothing_stays_a_problem(
    tmp_path: Path, outside: ParsedBox
) -> None:
    validated = Splits(tmp_path, GOOD, outside).validate(CLIP)

    assert ProblemCode.BOX_OUTSIDE in {problem.code for problem in validated.problems}
    assert [image.num_clippable for image in validated.images["train"]] == [0]


@pytest.mark.parametrize("boxes", [1, 3])
def test_a_split_of_crowds_is_empty(tmp_path: Path, boxes: int) -> None:
    crowds = (ParsedBox("annotation 1", "cat", BOX, is_crowd=True),) * boxes

    (problem,) = Splits(tmp_path, *crowds).validate().problems

    assert problem.code is ProblemCode.EMPTY_SPLIT
    assert f"each of its {boxes} usable boxes is a crowd" in problem.message


def test_an_object_beside_a_crowd_suffices(tmp_path: Path) -> None:
    crowd = ParsedBox("annotation 1", "cat", BOX, is_crowd=True)

    assert Splits(tmp_path, crowd, GOOD).validate().problems == ()


def test_a_name_that_no_file_can_have_is_a_problem_as_others(tmp_path: Path) -> None:
    names = ("a" * 300 + ".png", "b" * 5000, "c\0.png", "d\ud83d.png", "a.png/e.png", "gone.png")
    splits = Splits(tmp_path, GOOD, more=names)

    validated = splits.validate()

    assert [problem.code for problem in validated.problems] == [
        *[ProblemCode.UNSAFE_PATH] * 4,
        *[ProblemCode.MISSING_IMAGE] * 2,
    ]
    assert len(validated.images["train"]) == 1


def test_every_text_of_a_problem_can_be_printed() -> None:
    problem = Problem("a\x1b[2J", "image 1", ProblemCode.LEAK, "b\ud83d\n", "ä猫\udcff")

    assert str(problem).isprintable()
    assert problem.file == r"a\x1b[2J"
    assert problem.message == r"b\ud83d\n"
    assert problem.image == r"ä猫\udcff"


def test_links_out_of_the_folder_are_followed_if_that_is_allowed(tmp_path: Path) -> None:
    blob = write_image(tmp_path / "cache" / "blob", shade=7, format="PNG")
    splits = Splits(tmp_path, GOOD, more=("linked.png",))
    (tmp_path / "train" / "linked.png").symlink_to(blob)

    (problem,) = splits.validate().problems
    followed = splits.validate(ValidationOptions(follow_links=True))

    assert problem.code is ProblemCode.UNSAFE_PATH
    assert "--follow-links" in problem.message
    assert followed.problems == ()
    assert followed.images["train"][1].file.path == blob.resolve()


@pytest.mark.parametrize(
    ("moved_to", "hint"),
    [
        ("train/deep", "but {root}/train/deep has the first"),
        ("", "but {root} has the first"),
        (None, "which is no folder"),
    ],
)
def test_a_wrong_folder_is_one_problem(tmp_path: Path, moved_to: str | None, hint: str) -> None:
    splits = Splits(tmp_path, GOOD, more=("b.png", "c.png"))
    (tmp_path / "train" / "a.png").unlink()
    (tmp_path / "train").rmdir()
    if moved_to is not None:
        (tmp_path / "train").mkdir()
        write_image(tmp_path / moved_to / "a.png", shade=0)

    problems = splits.validate().problems

    assert [problem.code for problem in problems] == [
        ProblemCode.EMPTY_SPLIT,
        ProblemCode.MISSING_IMAGE,
    ] or [problem.code for problem in problems] == [
        ProblemCode.MISSING_IMAGE,
        ProblemCode.EMPTY_SPLIT,
    ]
    (missing,) = (problem for problem in problems if problem.code is ProblemCode.MISSING_IMAGE)
    assert "none of the 3 images is in" in missing.message
    assert missing.message.endswith("; the first is a.png")
    assert hint.format(root=tmp_path) in missing.message
