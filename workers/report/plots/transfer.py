"""Plots of the gap between teacher and student by class, size, IoU and kind of error."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from configs.protocol.report import ErrorKind, TeacherStudent, Transfer
from workers.report.blocks import Picture
from workers.report.plots.style import (
    INK,
    QUIET,
    STUDENT,
    TEACHER,
    Canvas,
    draw_legend,
    draw_picture,
)

SIZES = {"s": "small (to 32²)", "m": "medium", "l": "large (from 96²)"}
ERRORS: dict[ErrorKind, str] = {
    "classification": "wrong class",
    "localization": "wrong place",
    "duplicate": "found twice",
    "background": "nothing there",
    "missed": "missed",
}
MAX_CLASSES = 20
_ROW_IN, _FRAME_IN = 0.31, 0.8
_MAX_LETTERS, _MAX_NARROW_LETTERS = 28, 18
"""Length of a class name beside a wide and beside a narrow plot; longer ones are truncated."""


def plot_classes(transfer: Transfer) -> Picture:
    """Plot AP of teacher and student by class, the largest gap first."""
    lags = widest_gaps(transfer.by_class)
    num_hidden = len(
        [pair for pair in transfer.by_class.values() if ap_gap(pair) is not None]
    ) - len(lags)
    hidden_note = (
        f" {num_hidden} classes with a smaller gap are left out." if num_hidden > 0 else ""
    )
    return _plot_gaps(
        lags,
        name="transfer-by-class",
        caption=f"AP over IoU 0.50 to 0.95, from 0 to 100; the largest gap first.{hidden_note}",
    )


def plot_sizes(transfer: Transfer) -> Picture:
    """Plot AP of teacher and student by object size."""
    rows = [(SIZES[size], transfer.by_size[size]) for size in ("s", "m", "l")
            if size in transfer.by_size]  # fmt: skip
    return _plot_gaps(
        [(title, pair) for title, pair in rows if ap_gap(pair) is not None],
        name="transfer-by-size",
        caption="AP, from 0 to 100, by the objects' size in pixels.",
    )


def plot_ious_and_errors(transfer: Transfer) -> Picture:
    """Plot AP over IoU thresholds, and the number of errors of each kind."""

    def draw(canvas: Canvas) -> None:
        _plot_ious(canvas.plots[0], transfer.by_iou)
        _plot_errors(canvas.plots[1], transfer.errors)

    return draw_picture(
        draw,
        height_in=3.2,
        num_plots=2,
        name="transfer-by-iou-and-error",
        caption="AP, from 0 to 100, by IoU threshold: a gap that widens to the right is one of "
        "localization. Errors at IoU 0.5 among detections with a score of 0.3 or more, after TIDE "
        "(Bolya et al., 2020).",
        alt="Teacher and student by IoU and by kind of error",
    )


def ap_gap(pair: TeacherStudent) -> float | None:
    """AP of the teacher minus that of the student; None if either is unknown."""
    if pair.teacher is None or pair.student is None:
        return None
    return pair.teacher - pair.student


def widest_gaps(
    pairs: Mapping[str, TeacherStudent], *, limit: int = MAX_CLASSES
) -> list[tuple[str, TeacherStudent]]:
    """The entries with the largest gaps, in descending order."""
    values = [(name, pair, ap_gap(pair)) for name, pair in pairs.items()]
    ordered = sorted(
        ((gap, name, pair) for name, pair, gap in values if gap is not None),
        key=lambda row: (-row[0], row[1]),
    )
    return [(name, pair) for _, name, pair in ordered[:limit]]


def _plot_gaps(rows: Sequence[tuple[str, TeacherStudent]], *, name: str, caption: str) -> Picture:
    def draw(canvas: Canvas) -> None:
        (axes,) = canvas.plots
        for row, (_, pair) in enumerate(rows):
            assert pair.teacher is not None
            assert pair.student is not None
            teacher, student = 100 * pair.teacher, 100 * pair.student
            axes.plot((student, teacher), (row, row), color=QUIET, linewidth=3.0, zorder=1)
            axes.plot(teacher, row, "D", color=TEACHER, markersize=7, label="teacher")
            axes.plot(student, row, "o", color=STUDENT, markersize=8, label="student")
        limit = _MAX_NARROW_LETTERS if canvas.is_narrow else _MAX_LETTERS
        axes.set_yticks(range(len(rows)), [_truncate(title, limit=limit) for title, _ in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        draw_legend(axes)

    height_in = _FRAME_IN + _ROW_IN * len(rows)
    return draw_picture(
        draw, height_in=height_in, name=name, caption=caption, alt="Teacher and student, by AP"
    )


def _plot_ious(axes: Axes, by_iou: Mapping[str, TeacherStudent]) -> None:
    for side, color, marker in (("teacher", TEACHER, "D"), ("student", STUDENT, "o")):
        values = [(float(iou), getattr(pair, side)) for iou, pair in sorted(by_iou.items())]
        points = [(iou, 100 * value) for iou, value in values if value is not None]
        xs, aps = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, aps, color=color, marker=marker, markersize=4.5, label=side, clip_on=False)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("IoU threshold")
    draw_legend(axes, title="AP by IoU")


def _plot_errors(axes: Axes, errors: Mapping[ErrorKind, TeacherStudent]) -> None:
    kinds = [kind for kind in ERRORS if kind in errors]
    for offset, side, color in ((-0.19, "teacher", TEACHER), (0.19, "student", STUDENT)):
        counts = [getattr(errors[kind], side) or 0.0 for kind in kinds]
        rows = [row + offset for row in range(len(kinds))]
        axes.barh(rows, counts, height=0.34, color=color, label=side)
        for row, count in zip(rows, counts, strict=True):
            axes.annotate(
                f"{count:.0f}", (count, row), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=8.5, color=INK,
            )  # fmt: skip
    axes.set_yticks(range(len(kinds)), [ERRORS[kind] for kind in kinds])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.margins(x=0.14)
    for spine in axes.spines.values():
        spine.set_visible(False)
    draw_legend(axes, title="Errors of each kind")


def _truncate(title: str, *, limit: int) -> str:
    return title if len(title) <= limit else f"{title[: limit - 1]}…"
