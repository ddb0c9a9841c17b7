"""Plots of the gap between teacher and student by class, size, IoU and kind of error."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from configs.protocol.report import ErrorKind, TeacherStudent, Transfer
from workers.report.blocks import Picture
from workers.report.plots.style import INK, QUIET, STUDENT, TEACHER, open_figure, to_picture

SIZES = {"s": "small (area up to 32²)", "m": "medium", "l": "large (area from 96²)"}
ERRORS: dict[ErrorKind, str] = {
    "classification": "wrong class",
    "localization": "wrong place",
    "duplicate": "found twice",
    "background": "nothing there",
    "missed": "missed",
}
MAX_CLASSES = 20
_ROW_IN, _FRAME_IN = 0.31, 0.8


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
        caption=f"AP over IoU 0.50 to 0.95, in points; the largest gap first.{hidden_note}",
    )


def plot_sizes(transfer: Transfer) -> Picture:
    """Plot AP of teacher and student by object size."""
    rows = [(SIZES[size], transfer.by_size[size]) for size in ("s", "m", "l")
            if size in transfer.by_size]  # fmt: skip
    return _plot_gaps(
        [(title, pair) for title, pair in rows if ap_gap(pair) is not None],
        name="transfer-by-size",
        caption="AP by the objects' size in pixels, in points.",
    )


def plot_ious_and_errors(transfer: Transfer) -> Picture:
    """Plot AP over IoU thresholds, and the number of errors of each kind."""
    with open_figure(3.1, columns=2) as (figure, (left_axes, right_axes)):
        _plot_ious(left_axes, transfer.by_iou)
        _plot_errors(right_axes, transfer.errors)
        return to_picture(
            figure,
            name="transfer-by-iou-and-error",
            caption="On the left AP, in points, by IoU threshold: a gap that widens to "
            "the right is one of localization. On the right errors at IoU 0.5 among detections "
            "with a score of 0.3 or more, after TIDE (Bolya et al., 2020).",
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
    with open_figure(_FRAME_IN + _ROW_IN * len(rows)) as (figure, (axes,)):
        for row, (_, pair) in enumerate(rows):
            assert pair.teacher is not None
            assert pair.student is not None
            teacher, student = 100 * pair.teacher, 100 * pair.student
            axes.plot((student, teacher), (row, row), color=QUIET, linewidth=3.0, zorder=1)
            axes.plot(teacher, row, "D", color=TEACHER, markersize=7, label="teacher")
            axes.plot(student, row, "o", color=STUDENT, markersize=8, label="student")
        axes.set_yticks(range(len(rows)), [_truncate(title) for title, _ in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        _legend(axes)
        return to_picture(
            figure, name=name, caption=caption, alt="Teacher and student side by side"
        )


def _plot_ious(axes: Axes, by_iou: Mapping[str, TeacherStudent]) -> None:
    axes.set_title("AP by IoU")
    for side, color, marker in (("teacher", TEACHER, "D"), ("student", STUDENT, "o")):
        values = [(float(iou), getattr(pair, side)) for iou, pair in sorted(by_iou.items())]
        points = [(iou, 100 * value) for iou, value in values if value is not None]
        xs, aps = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, aps, color=color, marker=marker, markersize=4.5, label=side, clip_on=False)
    axes.set_ylim(bottom=0.0)
    axes.legend(loc="best")


def _plot_errors(axes: Axes, errors: Mapping[ErrorKind, TeacherStudent]) -> None:
    axes.set_title("Errors of each kind")
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


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    axes.legend(
        list(by_label.values()), list(by_label), ncols=2, loc="lower right",
        bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0,
    )  # fmt: skip


def _truncate(title: str, *, limit: int = 28) -> str:
    return title if len(title) <= limit else f"{title[: limit - 1]}…"
