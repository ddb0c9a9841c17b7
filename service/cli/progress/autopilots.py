"""Progress of an autopilot: its state on a terminal, and a line for each decision."""

from threading import Event

from rich.console import RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from service.api.schemas.autopilots import AutopilotView, DecisionView
from service.cli import console
from service.cli.views.autopilots import format_decision, format_progress
from service.client import TandemClient
from service.domain.autopilot.autopilots import AutopilotPhase

_POLL_INTERVAL_S = 2.0


def watch_autopilot(client: TandemClient, autopilot_id: str) -> AutopilotView:
    """Show an autopilot until it is over; return the last view."""
    progress = AutopilotProgress()
    pause, last = Event(), -1
    with progress:
        while True:
            view = client.autopilot(autopilot_id)
            decisions = client.decisions(autopilot_id, after=last)
            last = decisions[-1].position if decisions else last
            progress.show(view, decisions)
            if view.is_over:
                return view
            pause.wait(_POLL_INTERVAL_S)


def wait_for_plan(client: TandemClient, autopilot_id: str) -> AutopilotView:
    """Wait until the probes have ended; return the view with the plan, or without if none could
    be made."""
    pause, printed = Event(), ""
    while True:
        view = client.autopilot(autopilot_id)
        if view.phase is not AutopilotPhase.PROBING:
            return view
        line = ", ".join(f"{job.key} (run {job.id}) is {job.state}" for job in view.jobs)
        if line and line != printed:
            console.error_output().print(Text(line, style="dim"))
            printed = line
        pause.wait(_POLL_INTERVAL_S)


class AutopilotProgress:
    """A context manager that prints new decisions, and on a terminal the newest state below."""

    def __init__(self) -> None:
        self._out = console.output()
        self._view: AutopilotView | None = None
        self._stage = ""
        self._live = Live(console=self._out, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> "AutopilotProgress":
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._out.is_terminal:
            self._live.stop()

    def show(self, view: AutopilotView, decisions: list[DecisionView]) -> None:
        """Print the new decisions; without a terminal also the state, where the stage changes."""
        self._view = view
        for decision in decisions:
            run = "" if decision.run is None else f" (run {decision.run.id})"
            self._out.print(escape(f"{decision.position}: {format_decision(decision.entry)}{run}"))
        stage = f"{view.phase} {view.stage} {view.desired}"
        if not self._out.is_terminal and stage != self._stage:
            self._stage = stage
            self._out.print(format_progress(view))

    def _render(self) -> RenderableType:
        return "" if self._view is None else Text.from_markup(format_progress(self._view))
