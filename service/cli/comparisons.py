"""Whether distillation helped, in a line; and what a run is compared with."""

import time
from threading import Event
from typing import TYPE_CHECKING

from rich.markup import escape

from configs.conclusions import format_points
from service.cli import console

if TYPE_CHECKING:
    from configs.protocol.report import NoiseFloor
    from service.api.schemas.runs import ComparisonView, PlanView, RunView
    from service.client import TandemClient

_COLORS = {"helps": "green", "hurts": "red", "cannot_tell": "yellow"}
_WAITS = "A report compares the taught student with the student alone ..."
_PATIENCE_S = 180.0
_POLL_S = 1.0


def format_verdict(found: "ComparisonView") -> str:
    """The conclusion in its verdict's color, and what its interval rests on."""
    color = _COLORS[found.verdict]
    return f"[{color}]{escape(found.conclusion)}[/] {escape(found.basis)}"


def format_gains(found: "ComparisonView") -> str | None:
    """The gain of each seed, as in `+2.3 (seed 0), +1.1 (seed 1)`; none: there is one pair."""
    if len(found.gains) < 2:
        return None
    return ", ".join(f"{format_points(pair.gain)} (seed {pair.seed})" for pair in found.gains)


def format_baseline(found: "RunView") -> str | None:
    """The run that a run is compared with, and whether that can still be."""
    if found.baseline_run_id is None:
        return None
    if found.is_baseline_lost:
        return f"{found.baseline_run_id}, which ended badly; `tandem retry {found.baseline_run_id}` mends it"
    return found.baseline_run_id


def format_planned_baseline(planned: "PlanView") -> list[str]:
    """What a planned run would be compared with, and which differences would mean nothing."""
    lines = []
    baseline = planned.baseline
    if baseline is not None and baseline.run_id is not None:
        score = baseline.best_map
        known = "" if score is None else f", mAP {console.format_score(score)}"
        lines.append(f"Its baseline would be {baseline.run_id} again ({baseline.state}{known}).")
    elif baseline is not None:
        lines.append(
            "Its baseline, the same student alone, would be booked beside it; --no-baseline "
            "leaves it out."
        )
    if planned.noise is not None:
        lines.append(f"Seeds alone: {format_noise_floor(planned.noise)}.")
    return lines


def format_noise_floor(noise: "NoiseFloor") -> str:
    """Which differences mean nothing."""
    return f"up to {100 * noise.floor:.1f} mAP of difference, as {noise.runs} runs have shown"


def show_verdict(
    client: "TandemClient", run_id: str, *, pairs: int = 1, timeout_s: float = _PATIENCE_S
) -> None:
    """Wait for the report of a run that is over, and print its verdict; why, if there is none.

    `pairs` is how many pairs with different seeds the verdict is to rest on.
    """
    out = console.output()
    found = client.run(run_id)
    if not _is_compared(found, pairs) and explain_missing_verdict(client, found) is None:
        if not out.is_terminal:
            out.print(_WAITS)
        with out.status(_WAITS):
            found = _when_compared(client, found, pairs=pairs, patience_s=timeout_s)
    if found.comparison is not None:
        out.print(format_verdict(found.comparison), soft_wrap=True)
        out.print(f"`tandem report {run_id}` shows why.")
    elif found.baseline_run_id is not None:
        why = (
            explain_missing_verdict(client, found)
            or f"no verdict yet; `tandem show {run_id}` will have it"
        )
        out.print(f"Did distillation help: {why}.", soft_wrap=True)


def explain_missing_verdict(client: "TandemClient", found: "RunView") -> str | None:
    """Why there will be none by itself; none: it may be waited for."""
    if found.baseline_run_id is None or found.state != "succeeded":
        return "it is not compared"
    if found.is_baseline_lost:
        return f"its baseline {found.baseline_run_id} ended badly"
    report = None if found.report_run_id is None else client.run(found.report_run_id)
    if report is not None and report.state in ("failed", "cancelled"):
        has = "has failed" if report.state == "failed" else "is cancelled"
        return f"the report {report.id} {has}; `tandem logs {report.id}` says why"
    if any(event.kind == "no_verdict" for event in client.events(found.id)):
        return f"there was nothing to compare; `tandem report {found.id}` says why"
    return None


def _when_compared(
    client: "TandemClient", found: "RunView", *, pairs: int, patience_s: float
) -> "RunView":
    until_s, pause = time.monotonic() + patience_s, Event()
    while time.monotonic() < until_s:
        if _is_compared(found, pairs) or explain_missing_verdict(client, found) is not None:
            break
        pause.wait(_POLL_S)
        found = client.run(found.id)
    return found


def _is_compared(run: "RunView", pairs: int) -> bool:
    return run.comparison is not None and max(1, len(run.comparison.gains)) >= pairs
