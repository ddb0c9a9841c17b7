"""Progress of runs: a live block per run on a terminal, otherwise a printed line per change."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from threading import Event

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from configs.metric_keys import Metric
from service.api.schemas.runs import RunView
from service.cli import console
from service.client import TandemClient
from service.domain.states import RunState

_POLL_INTERVAL_S = 1.0
_STATE_WIDTH, _BAR_WIDTH = 9, 20
"""In characters."""

_TERMS = (
    Metric.LOSS,
    Metric.LOSS_CLS,
    Metric.LOSS_BBOX,
    Metric.LOSS_DFL,
    Metric.LOSS_DISTILL_CLS,
    Metric.LOSS_DISTILL_LOC,
)


def watch_runs(
    client: TandemClient, run_ids: Mapping[str, str], *, is_quiet: bool = False
) -> dict[str, RunView]:
    """Show runs by label until all are over or one fails; return the last views."""
    progress = RunsProgress()
    pause = Event()
    with nullcontext() if is_quiet else progress:
        while True:
            views = {label: client.run(run_id) for label, run_id in run_ids.items()}
            if not is_quiet:
                progress.show(views)
            if should_stop_watching(views.values()):
                return views
            pause.wait(_POLL_INTERVAL_S)


def should_stop_watching(views: Iterable[RunView]) -> bool:
    """Whether all runs are over, or one has failed or is cancelled."""
    all_views = tuple(views)
    has_failed = any(view.is_over and view.state is not RunState.SUCCEEDED for view in all_views)
    return has_failed or all(view.is_over for view in all_views)


class RunsProgress:
    """A context manager that displays the newest views of runs."""

    def __init__(self) -> None:
        self._out = console.output()
        self._views: dict[str, RunView] = {}
        self._printed: dict[str, str] = {}
        self._live = Live(console=self._out, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> "RunsProgress":
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._out.is_terminal:
            self._live.stop()

    def show(self, views: Mapping[str, RunView]) -> None:
        """Update the display; without a terminal, print the runs that have changed."""
        self._views = dict(views)
        if self._out.is_terminal:
            return
        for label, view in views.items():
            line = format_run_line(view)
            if self._printed.get(label) != line:
                self._printed[label] = line
                self._out.print(f"{label}: {escape(line)}")

    def _render(self) -> RenderableType:
        width = max(map(len, self._views), default=0)
        runs = [render_run(label, view, label_width=width) for label, view in self._views.items()]
        return Group(*runs)


def render_run(label: str, view: RunView, *, label_width: int = 0) -> RenderableType:
    """Render a run as a progress bar, with time left and metrics below; fits 80 columns."""
    label_width = max(label_width, len(label))
    progress = view.progress
    done, total = (progress.step, progress.steps) if progress else (0, 1)
    if view.state == "succeeded":
        done = total
    head = Table.grid(padding=(0, 1))
    for width in (label_width, _STATE_WIDTH, _BAR_WIDTH):
        head.add_column(width=width, no_wrap=True)
    head.add_column(no_wrap=True)
    head.add_row(
        f"[bold]{escape(label)}[/]",
        console.format_state(view.state),
        _bar(done, total),
        _format_position(view),
    )
    details = Text(_format_details(view), no_wrap=True, overflow="ellipsis")
    return (
        Group(head, Padding(details, (0, 0, 0, label_width + 1), expand=False)) if details else head
    )


def format_run_line(view: RunView) -> str:
    """Format a run as a line without fast changing values."""
    parts = [str(view.state), _format_epoch(view) if view.progress else ""]
    if not view.is_over and view.state != "running":
        parts.append(view.waiting_for or "")
    if view.progress and view.state == "running":
        parts.append(view.progress.phase)
    score = view.latest.get(Metric.MAP)
    parts.append(f"mAP {console.format_score(score)}" if score is not None else "")
    parts.append(view.message if view.state == "failed" else "")
    return "  ".join(part for part in parts if part)


def _format_epoch(view: RunView) -> str:
    progress = view.progress
    return f"epoch {progress.epoch}/{progress.epochs}" if progress and progress.epochs else ""


def _format_position(view: RunView) -> str:
    progress = view.progress
    step = "" if progress is None or view.is_over else f"step {progress.step}/{progress.steps}"
    return "  ".join(filter(None, (_format_epoch(view), step)))


def _format_details(view: RunView) -> str:
    """Why a run waits, or its time left, mAP, losses and message."""
    if view.state in {"queued", "starting"}:
        return f"waits for {view.waiting_for}" if view.waiting_for else "waits for a worker"
    parts = []
    progress = view.progress if view.state == "running" else None
    if progress is not None and progress.eta_s is not None:
        parts.append(f"{console.format_duration(progress.eta_s)} left")
    if progress is not None and progress.phase != "training":
        parts.append(progress.phase)
    score = view.latest.get(Metric.MAP)
    if score is not None:
        parts.append(f"mAP {console.format_score(score)}")
    parts += [
        f"{term.removeprefix('train/')} {view.latest[term]:.3f}"
        for term in _TERMS
        if term in view.latest
    ]
    if view.message and view.state in {"failed", "cancelled"}:
        parts.append(view.message)
    return "  ".join(parts) or ("" if view.is_over else "preparing")


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(
        total=max(total, 1),
        completed=done,
        width=_BAR_WIDTH,
        style="bright_black",
        complete_style="blue",
        finished_style="green",
    )
