"""Autopilots: what is stored of each besides its history."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum, unique
from typing import Literal

from configs.protocol.names import DEFAULT_PROJECT
from configs.spec.autopilot import AutopilotSpec
from service.domain.autopilot.request import AutopilotRequest
from service.domain.errors.conflicts import Conflict


@unique
class AutopilotPhase(StrEnum):
    """What an autopilot does."""

    PROBING = "probing"
    """It times steps of every student; no run trains yet."""

    SEARCHING = "searching"
    DELIVERING = "delivering"
    """It has decided, and exports and evaluates what it delivers."""

    SUCCEEDED = "succeeded"
    """It has delivered a student."""

    FAILED = "failed"
    """It could not begin, or has no student to deliver."""

    STOPPED = "stopped"


UNFINISHED_PHASES = (AutopilotPhase.PROBING, AutopilotPhase.SEARCHING, AutopilotPhase.DELIVERING)

AutopilotDesire = Literal["run", "pause", "stop"]

PROBE_KEY, EXPORT_KEY, EVALUATION_KEY, REPORT_KEY = "probe", "export", "evaluation", "report"
"""Kinds of jobs of an autopilot that its history does not name. A key is `KIND.NAME`."""


@dataclass(frozen=True)
class Autopilot:
    """A request of a person, how far it is, and what its decisions depend on."""

    id: str
    name: str
    preset: str | None
    spec: AutopilotSpec
    phase: AutopilotPhase
    created_at: datetime
    updated_at: datetime
    created_by: str
    project: str = DEFAULT_PROJECT
    priority: int = 0
    desired: AutopilotDesire = "run"
    message: str = ""
    request: AutopilotRequest | None = None
    """What it may choose from, with costs; None until the probes have ended."""

    notes: tuple[str, ...] = ()
    """What its runs are warned of, and what the probes have excluded."""

    active_since: datetime | None = None
    """Since when its clock runs; None while it is paused, and before and after the search."""

    active_s: float = 0.0
    """Seconds of its clock until then."""

    finished_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        return self.phase not in UNFINISHED_PHASES

    def elapsed_s(self, now: datetime) -> float:
        """Seconds of the search so far, without pauses."""
        since = now if self.active_since is None else self.active_since
        return self.active_s + max(0.0, (now - since).total_seconds())


@dataclass(frozen=True)
class AutopilotJob:
    """A run of an autopilot."""

    key: str
    """That of its launch in the history, or a `KIND.NAME` of another job."""

    run_id: str
    first_attempt: int = 1
    """A run that was stopped and continues has a job for each time; its attempts from this one on
    belong to the newest."""


class AutopilotActionRefused(Conflict):
    """The phase of an autopilot does not allow an action of a person."""

    code = "invalid_autopilot_transition"


def start_clock(autopilot: Autopilot, *, at: datetime) -> Autopilot:
    """The autopilot with its clock running, unless it is paused."""
    if autopilot.active_since is not None or autopilot.desired == "pause":
        return autopilot
    return replace(autopilot, active_since=at)


def stop_clock(autopilot: Autopilot, *, at: datetime) -> Autopilot:
    """The autopilot with its clock stopped."""
    return replace(autopilot, active_s=autopilot.elapsed_s(at), active_since=None)


def enter_phase(
    autopilot: Autopilot, phase: AutopilotPhase, *, at: datetime, message: str = ""
) -> Autopilot:
    """The autopilot in another phase, whose clock runs during the search alone."""
    moved = replace(autopilot, phase=phase, message=message, updated_at=at)
    if phase is AutopilotPhase.SEARCHING:
        return start_clock(replace(moved, finished_at=None), at=at)
    moved = stop_clock(moved, at=at)
    return replace(moved, finished_at=at if moved.is_over else None)
