"""What an import tells: problems grouped by cause, what each choice would do, and a file of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from workers.data.formats.parsed import ParsedSplit
from workers.data.manifest import SPLITS, SplitName
from workers.data.problems import Problem, ProblemCode, describe_code
from workers.data.validation import ValidatedSplits

REPORT = "import-report.json"
"""The report's file name in the dataset's folder; the digest does not depend on it."""

_CAUSE_IS_THE_MESSAGE = frozenset({ProblemCode.UNKNOWN_CLASS, ProblemCode.EMPTY_SPLIT})


@dataclass(frozen=True)
class ProblemGroup:
    """Problems of one cause, in the order of the report."""

    code: ProblemCode
    cause: str
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class SplitCounts:
    """How many images and boxes of a split are listed and can be used."""

    listed_images: int
    images: int
    listed_boxes: int
    boxes: int
    emptied_images: int
    """Usable images that keep none of their boxes; they are trained on as background."""

    clippable_boxes: int
    """Boxes that reach out of a usable image, and that clipping keeps or would keep."""


@dataclass(frozen=True)
class ImportReport:
    """The findings of an import, whether something was written or not."""

    source: str
    options: tuple[str, ...]
    """The options of the command that change what is written."""

    problems: tuple[Problem, ...]
    splits: Mapping[SplitName, SplitCounts]
    num_trimmed: int
    """Boxes that exceeded their image by a pixel or less, and were trimmed."""

    notes: tuple[str, ...] = ()
    """What was read otherwise than it is written."""

    num_excluded: int = 0
    """Images that `--exclude-of` has left out."""

    @property
    def is_empty(self) -> bool:
        """Whether train or val would be without an object that counts."""
        return any(problem.code is ProblemCode.EMPTY_SPLIT for problem in self.problems)

    @property
    def choices(self) -> tuple[str, ...]:
        """What each further option would do, in a sentence each."""
        return tuple(_describe_choices(self))

    def write(self, path: Path) -> None:
        """Write the report as JSON, with every problem."""
        document = {
            **asdict(self),
            "choices": self.choices,
            "groups": [
                {"code": group.code, "cause": group.cause, "count": len(group.problems)}
                for group in group_problems(self.problems)
            ],
        }
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


class ImportRefused(Exception):
    """The dataset has problems that were not to be dropped, or cannot be; nothing was written."""

    def __init__(self, report: ImportReport) -> None:
        super().__init__(f"{len(report.problems)} problems; nothing was written.")
        self.report = report


def count_split(split: ParsedSplit, validated: ValidatedSplits, name: SplitName) -> SplitCounts:
    """Count what a split lists, without what is excluded, and what of it can be used."""
    images = validated.images[name]
    return SplitCounts(
        listed_images=split.num_listed_images - (validated.num_excluded if name == "train" else 0),
        images=len(images),
        listed_boxes=split.num_listed_boxes,
        boxes=sum(len(image.parsed.boxes) for image in images),
        emptied_images=sum(
            1 for image in images if image.num_dropped > 0 and not image.parsed.boxes
        ),
        clippable_boxes=sum(image.num_clippable for image in images),
    )


def group_problems(problems: Sequence[Problem]) -> tuple[ProblemGroup, ...]:
    """Group problems by their cause, the most frequent first."""
    groups: dict[tuple[ProblemCode, str], list[Problem]] = {}
    for problem in problems:
        is_cause = problem.code in _CAUSE_IS_THE_MESSAGE
        cause = problem.message if is_cause else describe_code(problem.code)
        groups.setdefault((problem.code, cause), []).append(problem)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return tuple(ProblemGroup(code, cause, tuple(members)) for (code, cause), members in ordered)


def _describe_choices(report: ImportReport) -> list[str]:
    counts = [report.splits[name] for name in SPLITS]
    num_boxes = sum(split.listed_boxes for split in counts)
    num_clippable = sum(split.clippable_boxes for split in counts)
    codes = [
        problem.code for problem in report.problems if problem.code is not ProblemCode.EMPTY_SPLIT
    ]
    num_leaks = codes.count(ProblemCode.LEAK)
    choices = []
    if num_leaks:
        choices.append(
            f"--allow-leak keeps {num_leaks:,} images in train and val, as to check that a model "
            "overfits."
        )
    if codes and not report.is_empty and "--drop-bad" not in report.options:
        choices.append(f"--drop-bad loses {_describe_losses(counts)}.")
    if "--clip" in report.options or num_clippable == 0:
        return choices
    if set(codes) == {ProblemCode.BOX_OUTSIDE} and len(codes) == num_clippable:
        return [*choices, f"--clip keeps all {num_boxes:,} boxes, and clips {num_clippable:,}."]
    losses = _describe_losses(counts, num_saved=num_clippable)
    return [*choices, f"--clip --drop-bad loses {losses}, and clips {num_clippable:,} boxes."]


def _describe_losses(counts: Sequence[SplitCounts], *, num_saved: int = 0) -> str:
    num_boxes = sum(split.listed_boxes for split in counts)
    num_images = sum(split.listed_images for split in counts)
    lost_boxes = num_boxes - sum(split.boxes for split in counts) - num_saved
    lost_images = num_images - sum(split.images for split in counts)
    losses = f"{lost_images:,} of {num_images:,} images"
    if num_boxes:
        losses = f"{lost_boxes:,} of {num_boxes:,} boxes and {losses}"
    emptied = sum(split.emptied_images for split in counts)
    if emptied and not num_saved:
        losses += f"; {emptied:,} images keep no box and count as background"
    return losses
