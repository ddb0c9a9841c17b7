"""The section on the gap between teacher and student."""

from collections.abc import Iterator

from configs.protocol.report import Report, ReportInputs, Transfer
from workers.report.blocks import Block, Gallery, Paragraph, Placeholder, Section
from workers.report.plots.images import Photos
from workers.report.plots.transfer import (
    ERRORS,
    SIZES,
    ap_gap,
    plot_classes,
    plot_ious_and_errors,
    plot_sizes,
    widest_gaps,
)
from workers.report.wording import format_count, format_gain, join_items


def transfer_section(inputs: ReportInputs, report: Report, photos: Photos) -> Section:
    """Build the section with the gap by class, size, IoU and kind of error, and images."""
    title = "Where knowledge did not transfer"
    if report.transfer is None:
        why = "No distilled run has both its own and its teacher's detections."
        return Section("transfer", title, (Placeholder(why),))
    return Section("transfer", title, tuple(_blocks(report.transfer, inputs, photos)))


def _blocks(transfer: Transfer, inputs: ReportInputs, photos: Photos) -> Iterator[Block]:
    yield Paragraph(" ".join(_describe(transfer, inputs)))
    if widest_gaps(transfer.by_class):
        yield plot_classes(transfer)
    if any(ap_gap(pair) is not None for pair in transfer.by_size.values()):
        yield plot_sizes(transfer)
    if transfer.by_iou or transfer.errors:
        yield plot_ious_and_errors(transfer)
    yield from _gallery(transfer, photos)


def _describe(transfer: Transfer, inputs: ReportInputs) -> Iterator[str]:
    name = next((run.name for run in inputs.runs if run.id == transfer.run), transfer.run)
    yield f"The student of {name} compared with its teacher on the same images."
    gaps = [(key, ap_gap(pair) or 0.0) for key, pair in widest_gaps(transfer.by_class, limit=3)]
    worst = [f"“{key}” ({format_gain(-value)})" for key, value in gaps if value > 0]
    if worst:
        yield f"By class the gap is largest for {join_items(worst)}."
    sizes = widest_gaps({SIZES[size]: pair for size, pair in transfer.by_size.items()}, limit=1)
    if sizes and (ap_gap(sizes[0][1]) or 0.0) > 0:
        yield f"By size: {sizes[0][0]}, {format_gain(-(ap_gap(sizes[0][1]) or 0.0))}."
    more = {
        kind: (pair.student or 0.0) - (pair.teacher or 0.0)
        for kind, pair in transfer.errors.items()
    }
    if more and max(more.values()) > 0:
        kind = max(more, key=lambda kind: more[kind])
        yield f"The kind of error that increases most is “{ERRORS[kind]}”."


def _gallery(transfer: Transfer, photos: Photos) -> Iterator[Block]:
    if not transfer.images:
        yield Placeholder("There is no object that the teacher detects and the student misses.")
        return
    yield Paragraph(
        f"Objects that the teacher detects and the student misses (IoU 0.5, correct class), with "
        f"the teacher's score: {len(photos.photos)} of "
        f"{format_count(len(transfer.images), 'image')}, those with the most missed objects first."
    )
    if photos.photos:
        yield Gallery(photos.photos)
    if photos.unreadable:
        yield Placeholder(f"Images that could not be read: {join_items(photos.unreadable)}.")
