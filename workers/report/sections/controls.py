"""The section on how much of the gain needs a teacher that knows something."""

from collections.abc import Iterator

from configs.protocol.comparison import ControlComparison
from configs.protocol.report import Report
from configs.spec.base import TeacherControl
from workers.report.blocks import Block, Cell, Column, Paragraph, Row, Section, Table
from workers.report.wording import (
    format_count,
    format_gain,
    format_interval,
    format_points,
)

_NAMES: dict[TeacherControl, str] = {
    "random_teacher": "an untrained teacher",
    "shuffled_teacher": "the teacher's outputs of other images",
}


def controls_section(report: Report) -> Section | None:
    """Build the section; None if no control of the main comparison has finished."""
    if not report.controls:
        return None
    return Section("controls", "Does the gain need the teacher?", tuple(_blocks(report)))


def _blocks(report: Report) -> Iterator[Block]:
    for comparison in report.controls:
        yield Paragraph(_describe(comparison))
    yield _table(report)
    yield Paragraph(
        "Controls are the same run with a teacher that cannot help: random_teacher has the "
        "teacher's architecture with untrained weights, shuffled_teacher gives each image the "
        "trained teacher's outputs of another image of its batch. What they gain is the effect of "
        "the additional losses alone. Differences are of runs with the same seed."
    )


def _describe(comparison: ControlComparison) -> str:
    """How much of the gain needs a teacher that knows something, and how sure that is."""
    name = _NAMES[comparison.kind]
    gain, control = format_gain(comparison.gain.difference), comparison.control_gain
    seeds = format_count(len(comparison.runs), "seed")
    needed = comparison.difference
    interval = f"{format_gain(needed.difference)} mAP {format_interval(needed)}"
    facts = (
        f"The gain is {gain} mAP, and with {name} it is {format_gain(control.difference)} "
        f"{format_interval(control)} (over {seeds})."
    )
    if comparison.verdict == "helps":
        return f"{facts} So {interval} of it needs a teacher that knows something about the image."
    if comparison.verdict == "hurts":
        return f"{facts} The control is better: {interval} is what the teacher's knowledge costs."
    reason = (
        "one seed says nothing of the spread over seeds"
        if len(comparison.runs) == 1
        else "the interval holds 0"
    )
    return (
        f"{facts} Cannot tell how much of the gain needs a teacher that knows something about the "
        f"image: the difference is {interval}, and {reason}."
    )


def _table(report: Report) -> Table:
    columns = (
        Column("control"),
        Column("seeds", is_number=True),
        Column("control", is_number=True),
        Column("distilled", is_number=True),
        Column("difference", is_number=True),
        Column("95 % interval", is_number=True),
    )
    rows = tuple(
        Row(
            tuple(
                map(
                    Cell,
                    (
                        comparison.kind,
                        str(len(comparison.runs)),
                        format_points(comparison.difference.baseline),
                        format_points(comparison.difference.run),
                        format_gain(comparison.difference.difference),
                        format_interval(comparison.difference, may_wrap=True),
                    ),
                )
            )
        )
        for comparison in report.controls
    )
    return Table(columns, rows, title="mAP with distillation and with controls")
