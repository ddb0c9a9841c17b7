"""Verdicts and baselines as text."""

import time
from threading import Event
from typing import TYPE_CHECKING

from rich.markup import escape

from configs.conclusions import format_points
from service.cli import console

if TYPE_CHECKING:
    from configs.protocol.comparison import NoiseFloor
    from service.api.schemas.run_details import ComparisonView, RunDetails
    from service.api.schemas.runs import PlannedControlView, PlanView, RunView
    from service.client import TandemClient

VERDICT_COLORS = {"helps": "green", "hurts": "red", "cannot_tell": "yellow"}
_WAITING = "Waiting for the report that compares the run with its baseline ..."
_TIMEOUT_S = 180.0
_POLL_INTERVAL_S = 1.0


def format_verdict(comparison: "ComparisonView") -> str:
    """Format the conclusion in the color of its verdict, and the basis of its interval."""
    color = VERDICT_COLORS[comparison.verdict]
    return f"[{color}]{escape(comparison.conclusion)}[/] {escape(comparison.basis)}"


def format_gains(comparison: "ComparisonView") -> str | None:
    """Format the gains, e.g. `+2.3 (seed 0), +1.1 (seed 1)`; None for a single pair."""
    if len(comparison.gains) < 2:
        return None
    return ", ".join(f"{format_points(pair.gain)} (seed {pair.seed})" for pair in comparison.gains)


def format_baseline(run: "RunDetails") -> str | None:
    """Format the id of a run's baseline; with advice if the baseline has failed."""
    if run.baseline_run_id is None:
        return None
    if run.is_baseline_lost:
        baseline = run.baseline_run_id
        return f"{baseline}, which has failed or is cancelled; run `tandem retry {baseline}`"
    return run.baseline_run_id


def format_planned_baseline(plan: "PlanView") -> list[str]:
    """Describe the baseline and the controls of a planned run, and the known noise floor."""
    lines = []
    baseline = plan.baseline
    if baseline is not None and baseline.run_id is not None:
        score = baseline.best_map
        best = "" if score is None else f", mAP {console.format_score(score)}"
        lines.append(
            f"Its baseline would be the existing run {baseline.run_id} ({baseline.state}{best})."
        )
    elif baseline is not None:
        lines.append(
            "A baseline, the same student without a teacher, would be launched with it; "
            "--no-baseline disables that."
        )
    lines += [_format_planned_control(control) for control in plan.controls]
    if plan.noise is not None:
        lines.append(f"Noise floor: {format_noise_floor(plan.noise)}.")
    return lines


def _format_planned_control(control: "PlannedControlView") -> str:
    if control.run_id is None:
        return (
            f"The control {control.control}, another run of the same length, would be launched "
            "with it."
        )
    score = control.best_map
    best = "" if score is None else f", mAP {console.format_score(score)}"
    return (
        f"The control {control.control} would be the existing run {control.run_id} "
        f"({control.state}{best})."
    )


def format_noise_floor(noise: "NoiseFloor") -> str:
    """Format the difference in mAP that seeds alone can make."""
    return f"up to {100 * noise.floor:.1f} mAP between seeds, measured on {noise.runs} runs"


def show_verdict(
    client: "TandemClient", run_id: str, *, pairs: int = 1, timeout_s: float = _TIMEOUT_S
) -> None:
    """Wait for the report of a finished run; print its verdict, or why there is none.

    `pairs` is the number of seeds that the verdict must cover.
    """
    out = console.output()
    run = client.run(run_id)
    if not _is_compared(run, pairs) and explain_missing_verdict(client, run) is None:
        if not out.is_terminal:
            out.print(_WAITING)
        with out.status(_WAITING):
            run = _wait_for_comparison(client, run, pairs=pairs, timeout_s=timeout_s)
    if run.comparison is not None:
        out.print(format_verdict(run.comparison))
        out.print(f"`tandem report {run_id}` shows the details.")
    elif run.baseline_run_id is not None:
        reason = (
            explain_missing_verdict(client, run)
            or f"there is no verdict yet; `tandem show {run_id}` will show it"
        )
        out.print(f"No verdict: {reason}.")


def explain_missing_verdict(client: "TandemClient", run: "RunView") -> str | None:
    """Explain why no verdict will come by itself; None if one may still come."""
    return client.explain_missing_comparison(run)


def _wait_for_comparison(
    client: "TandemClient", run: "RunView", *, pairs: int, timeout_s: float
) -> "RunView":
    deadline_s, pause = time.monotonic() + timeout_s, Event()
    while time.monotonic() < deadline_s:
        if _is_compared(run, pairs) or explain_missing_verdict(client, run) is not None:
            break
        pause.wait(_POLL_INTERVAL_S)
        run = client.run(run.id)
    return run


def _is_compared(run: "RunView", pairs: int) -> bool:
    return run.comparison is not None and max(1, len(run.comparison.gains)) >= pairs
