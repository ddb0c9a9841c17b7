"""The table of `tandem runs`: a line per run."""

from collections.abc import Sequence

from rich.markup import escape

from configs.conclusions import format_points
from service.api.schemas.run_lists import RunSummaryView
from service.cli import console
from service.cli.comparisons import VERDICT_COLORS
from service.cli.console.tables import OutputTable
from service.cli.views.run_details import run_duration_s

_WIDE = 100
"""Columns of a terminal that has space for the duration."""


def build_runs_table(runs: Sequence[RunSummaryView], *, width: int) -> OutputTable:
    """Build the table for a terminal with `width` columns."""
    is_wide = width >= _WIDE
    table = console.create_table(
        *("id", "name", "state", "epoch", "mAP", "gain", "launched"),
        *(["duration"] if is_wide else []),
        folding=("name",),
        numbers=("epoch", "mAP", "gain"),
    )
    for run in runs:
        duration = console.format_duration(run_duration_s(run))
        table.add_row(
            run.id,
            escape(run.name),
            console.format_state(run.state),
            _format_epoch(run),
            console.format_score(run.best_map),
            _format_gain(run),
            console.format_time(run.created_at)[:-3],
            *([duration] if is_wide else []),
        )
    return table


def _format_epoch(run: RunSummaryView) -> str:
    progress = run.progress
    return f"{progress.epoch}/{progress.epochs}" if progress and progress.epochs else "-"


def _format_gain(run: RunSummaryView) -> str:
    if run.gain is None:
        return "-"
    points = format_points(run.gain)
    return points if run.verdict is None else f"[{VERDICT_COLORS[run.verdict]}]{points}[/]"
