"""A sweep while it searches: its trials, alive on a terminal and a line per change elsewhere."""

from collections.abc import Sequence
from threading import Event

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from service.api.schemas.sweeps import SweepView, TrialView
from service.cli import console
from service.client import TandemClient

_POLL_S = 2.0
_MOST_LINES = 24
"""Trials on a terminal; those that go on are always there."""


def watch_sweep(client: TandemClient, sweep_id: str) -> SweepView:
    """Shows a sweep until it is over; returns the last view."""
    progress = SweepProgress()
    pause = Event()
    with progress:
        while True:
            view, trials = client.sweep(sweep_id), client.trials(sweep_id)
            progress.show(view, trials)
            if view.is_over:
                return view
            pause.wait(_POLL_S)


class SweepProgress:
    """The picture of a sweep."""

    def __init__(self) -> None:
        self._out = console.output()
        self._shown: tuple[SweepView, Sequence[TrialView]] | None = None
        self._said: dict[str, str] = {}
        self._live = Live(console=self._out, get_renderable=self._rendered, refresh_per_second=4)

    def __enter__(self) -> "SweepProgress":
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._out.is_terminal:
            self._live.stop()

    def show(self, view: SweepView, trials: Sequence[TrialView]) -> None:
        """Takes the newest views; without a terminal, prints what has changed."""
        self._shown = (view, trials)
        if self._out.is_terminal:
            return
        self._say("sweep", format_sweep_line(view))
        for trial in trials:
            self._say(f"trial {trial.number}", format_trial_line(view, trial))

    def _say(self, label: str, line: str) -> None:
        if self._said.get(label) != line:
            self._said[label] = line
            self._out.print(f"{label}: {escape(line)}", soft_wrap=True)

    def _rendered(self) -> RenderableType:
        if self._shown is None:
            return ""
        view, trials = self._shown
        return Group(
            render_sweep_summary(view), build_trials_table(view, select_shown_trials(trials))
        )


def render_sweep_summary(view: SweepView) -> RenderableType:
    """What a sweep is, how far, and what it waits for."""
    lines = [
        f"[bold]{view.id}[/] {escape(view.name)}  {console.format_state(view.state)}  "
        f"{_counts(view)}",
        f"best: {escape(format_best_trial(view))}",
    ]
    if view.estimate is not None:
        lines.append(f"[dim]{escape(_estimate_in_words(view))}[/]")
    if view.waiting_for:
        lines.append(f"[dim]waits for {escape(view.waiting_for)}[/]")
    if view.message:
        lines.append(f"[dim]{escape(view.message)}[/]")
    lines += [f"[yellow]{escape(warning)}[/]" for warning in view.warnings]
    return Group(*lines)


def _estimate_in_words(view: SweepView) -> str:
    told = view.estimate
    assert told is not None
    packs = ""
    if view.pack_size > 1:
        packs = (
            f", in packs of {view.pack_size}: {told.saved:.0%} less work than one by one "
            f"({_hours(told.separate_hours)})"
        )
    gpus = f", {told.gpu_hours:.2g} GPU hours" if told.gpu_hours else ""
    price = "" if told.price is None else f", {told.price:.2f} in money"
    return f"at most {_hours(told.hours)}{packs}{gpus}{price}"


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1.0 else f"{hours * 60:.0f} min"


def build_trials_table(view: SweepView, trials: Sequence[TrialView]) -> Table:
    """Trials, one a line; the best is bold."""
    metrics = [objective.metric for objective in view.spec.objectives]
    shown = console.table("trial", "values", "state", "epoch", *metrics, folding=("values",))
    epochs = view.spec.base.schedule.epochs
    for trial in trials:
        is_best = view.best is not None and view.best.trial == trial.number
        style = "bold" if is_best else ""
        shown.add_row(
            str(trial.number),
            escape(format_trial_values(trial)),
            console.format_state(trial.state),
            f"{trial.epoch}/{_epochs(trial) or epochs}",
            *(_value(trial, metric) for metric in metrics),
            style=style,
        )
    return shown


def select_shown_trials(trials: Sequence[TrialView]) -> list[TrialView]:
    """Those that go on and the newest others, as many as a screen has room for."""
    live = [trial for trial in trials if trial.state == "running"]
    room = max(0, _MOST_LINES - len(live))
    others = [trial for trial in trials if trial.state != "running"]
    kept = others[len(others) - min(room, len(others)) :]
    return sorted([*live, *kept], key=lambda trial: trial.number)


def format_sweep_line(view: SweepView) -> str:
    """A sweep in one line that changes when something worth saying has happened."""
    words = [str(view.state), _counts(view)]
    if view.best is not None:
        words.append(f"best {format_best_trial(view)}")
    if view.waiting_for and view.state != "searching":
        words.append(f"waits for {view.waiting_for}")
    words.append(view.message)
    return "  ".join(word for word in words if word)


def format_trial_line(view: SweepView, trial: TrialView) -> str:
    """A trial in one line."""
    metrics = [objective.metric for objective in view.spec.objectives]
    told = [f"{metric} {_value(trial, metric)}" for metric in metrics if metric in trial.objectives]
    epoch = f"epoch {trial.epoch}" if trial.epoch else ""
    words = [trial.state, format_trial_values(trial), epoch, *told, trial.message]
    return "  ".join(word for word in words if word)


def format_best_trial(view: SweepView) -> str:
    """The best trial with its value; or that there is none yet."""
    best, metric = view.best, view.spec.objectives[0].metric
    if best is None:
        return "none yet"
    values = ", ".join(f"{_last(path)}={_scalar(value)}" for path, value in best.values.items())
    return f"trial {best.trial} ({values}): {metric} {format_metric_value(metric, best.objective)}"


def format_trial_values(trial: TrialView) -> str:
    """A trial's values, each by the last part of its name."""
    return " ".join(f"{_last(path)}={_scalar(value)}" for path, value in trial.values.items())


def format_metric_value(metric: str, value: float) -> str:
    """A value of a metric; an mAP as papers write it."""
    return console.format_score(value) if "mAP" in metric else f"{value:.4g}"


def _counts(view: SweepView) -> str:
    told = [f"{count} {result}" for result, count in sorted(view.by_result.items())]
    inside = f" ({', '.join(told)})" if told else ""
    return f"{view.trials} of {view.spec.budget.trials} trials{inside}"


def _value(trial: TrialView, metric: str) -> str:
    value = trial.objectives.get(metric)
    return "-" if value is None else format_metric_value(metric, value)


def _epochs(trial: TrialView) -> int | None:
    return next((run.epochs for run in trial.runs if run.epochs), None)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _scalar(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
