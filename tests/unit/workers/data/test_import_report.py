"""The report of an import groups problems by cause, and says what each choice would do."""

import json
from pathlib import Path

import pytest

from workers.data.import_report import ImportReport, SplitCounts, group_problems
from workers.data.problems import Problem, ProblemCode

OUTSIDE, DEGENERATE, EMPTY = (
    ProblemCode.BOX_OUTSIDE,
    ProblemCode.DEGENERATE_BOX,
    ProblemCode.EMPTY_SPLIT,
)


def describe(*codes: ProblemCode, options: tuple[str, ...] = (), **counts: int) -> ImportReport:
    """A report of problems in train, which lists 500 images and 1,200 boxes."""
    train = {
        "listed_images": 500,
        "images": 500,
        "listed_boxes": 1200,
        "boxes": 1200 - len(codes),
        "emptied_images": 0,
        "clippable_boxes": 0,
    }
    return ImportReport(
        source="COCO files",
        options=options,
        problems=tuple(
            Problem("train.json", f"annotation {number}", code, "cat")
            for number, code in enumerate(codes)
        ),
        splits={
            "train": SplitCounts(**(train | counts)),
            "val": SplitCounts(4, 4, 4, 4, emptied_images=0, clippable_boxes=0),
        },
        num_trimmed=0,
    )


@pytest.mark.parametrize(
    ("report", "choices"),
    [
        (describe(), ()),
        (
            describe(OUTSIDE, OUTSIDE, OUTSIDE, clippable_boxes=3, emptied_images=2),
            (
                "--drop-bad loses 3 of 1,204 boxes and 0 of 504 images; 2 images keep no box and "
                "count as background.",
                "--clip keeps all 1,204 boxes, and clips 3.",
            ),
        ),
        (
            describe(OUTSIDE, OUTSIDE, DEGENERATE, clippable_boxes=1, images=499),
            (
                "--drop-bad loses 3 of 1,204 boxes and 1 of 504 images.",
                "--clip --drop-bad loses 2 of 1,204 boxes and 1 of 504 images, and clips 1 boxes.",
            ),
        ),
        (
            describe(OUTSIDE, OUTSIDE, EMPTY, clippable_boxes=2),
            ("--clip keeps all 1,204 boxes, and clips 2.",),
        ),
        (
            describe(DEGENERATE, options=("--clip",), clippable_boxes=7),
            ("--drop-bad loses 1 of 1,204 boxes and 0 of 504 images.",),
        ),
        (describe(EMPTY), ()),
    ],
    ids=["none", "outside", "mixed", "all outside", "clipped", "empty"],
)
def test_a_choice_says_what_it_loses(report: ImportReport, choices: tuple[str, ...]) -> None:
    assert report.choices == choices


def test_problems_are_grouped_by_cause_the_most_frequent_first() -> None:
    unknown = [
        Problem("a.xml", f"line {line}", ProblemCode.UNKNOWN_CLASS, f"{name!r} is not among")
        for line, name in enumerate(("dog", "cow", "dog", "dog"))
    ]
    boxes = [Problem(f"{n}.xml", "line 1", OUTSIDE, f"cat at {n}") for n in range(2)]

    groups = group_problems([*unknown, *boxes])

    assert [(group.code, group.cause, len(group.problems)) for group in groups] == [
        (ProblemCode.UNKNOWN_CLASS, "'dog' is not among", 3),
        (OUTSIDE, "a box that reaches out of its image", 2),
        (ProblemCode.UNKNOWN_CLASS, "'cow' is not among", 1),
    ]


def test_the_file_has_every_problem_and_the_counts(tmp_path: Path) -> None:
    report = describe(*[OUTSIDE] * 50, clippable_boxes=50)

    report.write(tmp_path / "report.json")

    document = json.loads((tmp_path / "report.json").read_text())
    assert len(document["problems"]) == 50
    assert document["problems"][7]["location"] == "annotation 7"
    assert document["splits"]["train"]["boxes"] == 1150
    assert document["groups"] == [
        {"code": "box_outside", "cause": "a box that reaches out of its image", "count": 50}
    ]
    assert document["choices"] == list(report.choices)
