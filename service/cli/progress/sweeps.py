"""Progress of a sweep: a live table on a terminal, otherwise a printed line per change."""

from collections.abc import Sequence
from threading import Event

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from service.api.schemas.sweeps import SweepView, TrialView
from service.cli import console
from service.client import TandemClient

_POLL_INTERVAL_S = 2.0
_MAX_ROWS = 24
"""Trials in the live table; running ones are always shown."""


def watch_sweep(client: TandemClient, sweep_id: str) -> SweepView:
    """Show a sweep until it is over; return the last view."""
    progress = SweepProgress()
    pause = Event()
    with progress:
        while True:
            view, trials = client.sweep(sweep_id), client.trials(sweep_id)
            progress.show(view, trials)
            if view.is_over:
                return view
            pause.wait(_POLL_INTERVAL_S)


class SweepProgress:
    """A context manager that displays the newest view of a sweep and its trials."""

    def __init__(self) -> None:
        self._out = console.output()
        self._views: tuple[SweepView, Sequence[TrialView]] | None = None
        self._printed: dict[str, str] = {}
        self._live = Live(console=self._out, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> "SweepProgress":
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._out.is_terminal:
            self._live.stop()

    def show(self, view: SweepView, trials: Sequence[TrialView]) -> None:
        """Update the display; without a terminal, print the lines that have changed."""
        self._views = (view, trials)
        if self._out.is_terminal:
            return
        self._print_change("sweep", format_sweep_line(view))
        for trial in trials:
            self._print_change(f"trial {trial.number}", format_trial_line(view, trial))

    def _print_change(self, label: str, line: str) -> None:
        if self._printed.get(label) != line:
            self._printed[label] = line
            self._out.print(f"{label}: {escape(line)}")

    def _render(self) -> RenderableType:
        if self._views is None:
            return ""
        view, trials = self._views
        return Group(
            render_sweep_summary(view), build_trials_table(view, select_visible_trials(trials))
        )


def render_sweep_summary(view: SweepView) -> RenderableType:
    """Render state, counts, best trial, estimate, messages and warnings of a sweep."""
    lines = [
        f"[bold]{view.id}[/] {escape(view.name)}  {console.format_state(view.state)}  "
        f"{_format_counts(view)}",
        f"best: {escape(format_best_trial(view))}",
    ]
    if view.estimate is not None:
        lines.append(f"[dim]{escape(_format_estimate(view))}[/]")
    if view.waiting_for:
        lines.append(f"[dim]waits for {escape(view.waiting_for)}[/]")
    if view.message:
        lines.append(f"[dim]{escape(view.message)}[/]")
    lines += [f"[yellow]{escape(warning)}[/]" for warning in view.warnings]
    return Group(*lines)


def _format_estimate(view: SweepView) -> str:
    estimate = view.estimate
    assert estimate is not None
    packs = ""
    if view.pack_size > 1:
        packs = (
            f", in packs of {view.pack_size}: {estimate.saved:.0%} less work than one by one "
            f"({_format_hours(estimate.separate_hours)})"
        )
    gpus = f", {estimate.gpu_hours:.2g} GPU hours" if estimate.gpu_hours else ""
    price = "" if estimate.price is None else f", cost {estimate.price:.2f}"
    return f"at most {_format_hours(estimate.hours)}{packs}{gpus}{price}"


def _format_hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1.0 else f"{hours * 60:.0f} min"


def build_trials_table(view: SweepView, trials: Sequence[TrialView]) -> Table:
    """Build a table with a row per trial; the best one is bold."""
    metrics = [objective.metric for objective in view.spec.objectives]
    titles = [console.format_metric_name(metric) for metric in metrics]
    table = console.create_table(
        *("trial", "values", "state", "epoch", *titles, "message"),
        folding=("values",),
        below=("message",),
        numbers=("trial", *titles),
    )
    epochs = view.spec.base.schedule.epochs
    for trial in trials:
        is_best = view.best is not None and view.best.trial == trial.number
        style = "bold" if is_best else ""
        table.add_row(
            str(trial.number),
            escape(format_trial_values(trial)),
            console.format_state(trial.state),
            f"{trial.epoch}/{_num_epochs(trial) or epochs}",
            *(_format_objective(trial, metric) for metric in metrics),
            escape(trial.message),
            style=style,
        )
    return table


def select_visible_trials(trials: Sequence[TrialView]) -> list[TrialView]:
    """Select the running trials and the newest others, up to `_MAX_ROWS`."""
    running = [trial for trial in trials if trial.state == "running"]
    num_others = max(0, _MAX_ROWS - len(running))
    inactive = [trial for trial in trials if trial.state != "running"]
    newest = inactive[len(inactive) - min(num_others, len(inactive)) :]
    return sorted([*running, *newest], key=lambda trial: trial.number)


def format_sweep_line(view: SweepView) -> str:
    """Format state, counts and best trial of a sweep as a line."""
    parts = [str(view.state), _format_counts(view)]
    if view.best is not None:
        parts.append(f"best {format_best_trial(view)}")
    if view.waiting_for and view.state != "searching":
        parts.append(f"waits for {view.waiting_for}")
    parts.append(view.message)
    return "  ".join(part for part in parts if part)


def format_trial_line(view: SweepView, trial: TrialView) -> str:
    """Format state, values, epoch and objectives of a trial as a line."""
    metrics = [objective.metric for objective in view.spec.objectives]
    objectives = [
        f"{console.format_metric_name(metric)} {_format_objective(trial, metric)}"
        for metric in metrics
        if metric in trial.objectives
    ]
    epoch = f"epoch {trial.epoch}" if trial.epoch else ""
    parts = [trial.state, format_trial_values(trial), epoch, *objectives, trial.message]
    return "  ".join(part for part in parts if part)


def format_best_trial(view: SweepView) -> str:
    """Format the best trial with its values and objective; `none yet` without one."""
    best, metric = view.best, view.spec.objectives[0].metric
    if best is None:
        return "none yet"
    values = ", ".join(
        f"{_last_part(path)}={_format_scalar(value)}" for path, value in best.values.items()
    )
    score = console.format_metric(metric, best.objective)
    return f"trial {best.trial} ({values}): {console.format_metric_name(metric)} {score}"


def format_trial_values(trial: TrialView) -> str:
    """Format a trial's values, each with the last part of its path."""
    return " ".join(
        f"{_last_part(path)}={_format_scalar(value)}" for path, value in trial.values.items()
    )


def _format_counts(view: SweepView) -> str:
    counts = [f"{count} {result}" for result, count in sorted(view.by_result.items())]
    details = f" ({', '.join(counts)})" if counts else ""
    return f"{view.trials} of {view.spec.budget.trials} trials{details}"


def _format_objective(trial: TrialView, metric: str) -> str:
    value = trial.objectives.get(metric)
    return "-" if value is None else console.format_metric(metric, value)


def _num_epochs(trial: TrialView) -> int | None:
    return next((run.epochs for run in trial.runs if run.epochs), None)


def _last_part(path: str) -> str:
    return path.rpartition(".")[2]


def _format_scalar(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
