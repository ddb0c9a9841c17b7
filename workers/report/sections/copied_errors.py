"""The section on errors that the distilled student has in common with its teacher."""

from collections.abc import Iterator

from configs.protocol.comparison import Difference
from configs.protocol.copied_errors import CopiedErrors, CopiedShare
from configs.protocol.report import Report
from workers.report.blocks import Block, Cell, Column, Paragraph, Placeholder, Row, Section, Table
from workers.report.plots.images import Photos
from workers.report.wording import (
    MISSING,
    format_count,
    format_gain,
    format_interval,
    format_percent,
)

_KEY, _TITLE = "copied", "Errors copied from the teacher"


def copied_errors_section(report: Report, photos: Photos) -> Section:
    """Build the section with the shares of copied errors, and images of the strongest."""
    copied = report.copied_errors
    if copied is None:
        why = "No pair of a distilled run and its baseline has detections of its teacher."
        return Section(_KEY, _TITLE, (Placeholder(why),))
    return Section(_KEY, _TITLE, tuple(_blocks(copied, photos)))


def _blocks(copied: CopiedErrors, photos: Photos) -> Iterator[Block]:
    seeds = len(copied.runs)
    yield Paragraph(" ".join(_describe_false_positives(copied.false_positives, seeds)))
    yield Paragraph(" ".join(_describe_missed(copied.missed, seeds)))
    yield _table(copied)
    yield Paragraph(
        "Some images mislead every detector, so the student alone shares errors with a teacher "
        "that it never saw: only the difference is copied. Errors are counted at IoU 0.5 and "
        "scores of 0.3 or more; a false positive is shared if the teacher has one of the same "
        "class with an IoU of 0.5 or more."
    )
    yield from _list_images(photos)


def _describe_false_positives(share: CopiedShare, seeds: int) -> Iterator[str]:
    if share.difference is None:
        yield _explain_no_share(share, "false positive")
        return
    yield (
        f"Of {format_count(share.errors, 'false positive')} of {_students(seeds)} the teacher "
        f"makes {format_percent(share.difference.run)} at the same position; of the student "
        f"alone's {share.baseline_errors}, {format_percent(share.difference.baseline)}."
    )
    yield _conclude(share.difference, seeds)


def _describe_missed(share: CopiedShare, seeds: int) -> Iterator[str]:
    if share.difference is None:
        yield _explain_no_share(share, "missed object")
        return
    yield (
        f"Of {format_count(share.errors, 'object')} that {_students(seeds)} "
        f"{'misses' if seeds == 1 else 'miss'}, the teacher misses "
        f"{format_percent(share.difference.run)} too; of {share.baseline_errors} that the student "
        f"alone misses, {format_percent(share.difference.baseline)}."
    )
    yield _conclude(share.difference, seeds)


def _students(seeds: int) -> str:
    if seeds == 1:
        return "the distilled student"
    return f"the distilled students (mean over {format_count(seeds, 'seed')})"


def _explain_no_share(share: CopiedShare, noun: str) -> str:
    return (
        f"There is no share of copied errors: the distilled student has "
        f"{format_count(share.errors, noun)}, and the student alone {share.baseline_errors}."
    )


def _conclude(difference: Difference, seeds: int) -> str:
    interval = f"{format_gain(difference.difference)} points {format_interval(difference)}"
    if seeds == 1:
        return (
            f"That is {interval} for these two models; whether distillation copies errors is not "
            "known from one seed."
        )
    if difference.low is not None and difference.low > 0.0:
        return f"Distillation copies errors: {interval}."
    if difference.high is not None and difference.high < 0.0:
        return f"The distilled student shares fewer errors with the teacher: {interval}."
    return f"Cannot tell whether distillation copies errors: {interval}."


def _table(copied: CopiedErrors) -> Table:
    columns = (
        Column("error"),
        Column("distilled", is_number=True),
        Column("shared", is_number=True),
        Column("student alone", is_number=True),
        Column("shared", is_number=True),
        Column("difference", is_number=True),
        Column("95 % interval", is_number=True),
    )
    rows = (
        _row("false positive", copied.false_positives),
        _row("missed object", copied.missed),
    )
    return Table(columns, rows, title="Errors that the teacher makes too")


def _row(title: str, share: CopiedShare) -> Row:
    difference = share.difference
    cells = (
        title,
        str(share.errors),
        str(share.copied),
        str(share.baseline_errors),
        str(share.baseline_copied),
        MISSING if difference is None else format_gain(difference.difference),
        MISSING if difference is None else format_interval(difference, may_wrap=True),
    )
    return Row(tuple(map(Cell, cells)))


def _list_images(photos: Photos) -> Iterator[Block]:
    if not photos.copied:
        yield Placeholder("No image shows an error that only distilled student and teacher make.")
        return
    yield Paragraph(
        "The strongest errors that the distilled student has in common with the teacher and that "
        "the student alone does not make, with the boxes that overlap them, from the pair with the "
        "first seed."
    )
    yield from photos.copied
