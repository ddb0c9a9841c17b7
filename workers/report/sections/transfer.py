"""The section on what the teacher knows and the student did not learn."""

from collections.abc import Iterator

from configs.protocol.report import Dossier, Report, Transfer
from workers.report.blocks import Block, Gallery, Nothing, Section, Words
from workers.report.plots.images import Photos
from workers.report.plots.transfer import (
    ERRORS,
    SIZES,
    classes_picture,
    iou_picture,
    lag,
    sizes_picture,
    widest,
)
from workers.report.wording import counted, gain, listed


def transfer_section(dossier: Dossier, report: Report, photos: Photos) -> Section:
    """Teacher against student by class, size, IoU and kind of error, and images."""
    title = "Where knowledge did not transfer"
    if report.transfer is None:
        why = "No distilled run has kept both its own and its teacher's detections."
        return Section("transfer", title, (Nothing(why),))
    return Section("transfer", title, tuple(_blocks(report.transfer, dossier, photos)))


def _blocks(transfer: Transfer, dossier: Dossier, photos: Photos) -> Iterator[Block]:
    yield Words(" ".join(_in_words(transfer, dossier)))
    if widest(transfer.by_class):
        yield classes_picture(transfer)
    if any(lag(pair) is not None for pair in transfer.by_size.values()):
        yield sizes_picture(transfer)
    if transfer.by_iou or transfer.errors:
        yield iou_picture(transfer)
    yield from _gallery(transfer, photos)


def _in_words(transfer: Transfer, dossier: Dossier) -> Iterator[str]:
    name = next((run.name for run in dossier.runs if run.id == transfer.run), transfer.run)
    yield f"The student of {name} beside its teacher, on the same images."
    behind = [(key, lag(pair) or 0.0) for key, pair in widest(transfer.by_class, most=3)]
    worst = [f"“{key}” ({gain(-value)})" for key, value in behind if value > 0]
    if worst:
        yield f"By class it lags most in {listed(worst)}."
    sizes = widest({SIZES[size]: pair for size, pair in transfer.by_size.items()}, most=1)
    if sizes and (lag(sizes[0][1]) or 0.0) > 0:
        yield f"By size: {sizes[0][0]}, {gain(-(lag(sizes[0][1]) or 0.0))}."
    more = {
        kind: (pair.student or 0.0) - (pair.teacher or 0.0)
        for kind, pair in transfer.errors.items()
    }
    if more and max(more.values()) > 0:
        kind = max(more, key=lambda kind: more[kind])
        yield f"The kind of error that it has most more of is “{ERRORS[kind]}”."


def _gallery(transfer: Transfer, photos: Photos) -> Iterator[Block]:
    if not transfer.images:
        yield Nothing("There is no image where the teacher is right and the student is not.")
        return
    yield Words(
        f"Objects that the teacher finds and the student does not (IoU 0.5, the right class), with "
        f"the teacher's score: {len(photos.drawn)} of {counted(len(transfer.images), 'image')}, "
        "those with the most lost objects first."
    )
    if photos.drawn:
        yield Gallery(photos.drawn)
    if photos.unreadable:
        yield Nothing(f"Images that could not be read: {listed(photos.unreadable)}.")
