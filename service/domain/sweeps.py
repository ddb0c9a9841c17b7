"""A sweep: what was asked, where it is, who drives it; and its one table of moves."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from configs.protocol.names import DEFAULT_PROJECT
from configs.protocol.probe import Probe, max_pack_size
from configs.spec.search import Tpe
from configs.spec.sweep import SweepSpec
from service.domain.errors import InvalidSweepTransition


class SweepState(StrEnum):
    """Where a sweep is."""

    PROBING = "probing"
    SEARCHING = "searching"
    REPORTING = "reporting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


_PROBE, _SEARCH, _REPORT = SweepState.PROBING, SweepState.SEARCHING, SweepState.REPORTING
_OK, _BAD, _STOP = SweepState.SUCCEEDED, SweepState.FAILED, SweepState.STOPPED

SWEEP_TRANSITIONS: Final[dict[SweepState, frozenset[SweepState]]] = {
    _PROBE: frozenset({_SEARCH, _BAD, _STOP}),
    _SEARCH: frozenset({_REPORT, _BAD, _STOP}),
    _REPORT: frozenset({_OK, _STOP}),
    _OK: frozenset({_SEARCH}),
    _BAD: frozenset({_SEARCH}),
    _STOP: frozenset({_SEARCH}),
}
"""From each state, those that may follow. Only a person has one that is over search again."""

FINISHED_SWEEP_STATES: Final = frozenset({_OK, _BAD, _STOP})
"""Nothing follows by itself."""

_LARGEST_PACK = 8
"""What `pack: auto` goes up to: beyond it, what is saved of a step is small."""

_LEAST_TEACHER_MAP = 0.01
_LEAST_PART = 0.5
"""Of the mAP that a teacher is known for, on other images."""

DesiredSweepState = Literal["search", "stop"]


@dataclass(frozen=True)
class Sweep:
    """One search around a run, for life; what happened in it is in its list of entries."""

    id: str
    name: str
    preset: str | None
    spec: SweepSpec
    state: SweepState
    created_at: datetime
    updated_at: datetime
    created_by: str
    project: str = DEFAULT_PROJECT
    priority: int = 0
    """Of its trials' runs."""

    desired: DesiredSweepState = "search"
    message: str = ""
    driver: int = 0
    """Number of the driver that may write into the list; 0 before the first."""

    driver_log_start: int = 0
    """The list's length when this driver was submitted."""

    consecutive_failures: int = 0
    """Drivers in a row that ended badly without a new entry."""

    not_before: datetime | None = None
    """No driver starts earlier: the pause after a bad end."""

    last_seen_at: datetime | None = None
    """When its driver last asked or told us something; to within some seconds."""

    searching_since: datetime | None = None
    search_duration_s: float = 0.0
    """How long it has searched, before `searching_since`."""

    pack_size: int = 1
    """How many of its students train side by side with one teacher; settled when it searches."""

    slots: int = 1
    """Jobs of its students that the cluster had room for when that was settled."""

    probe: Probe | None = None
    probe_run_id: str | None = None
    report_run_id: str | None = None
    mlflow_run_id: str | None = None
    mlflow_synced: bool = False
    """Whether MLflow shows how it ended, with all of its trials below it."""

    finished_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in FINISHED_SWEEP_STATES

    @property
    def driver_job(self) -> str:
        """The Ray job of the current driver; the same number gives the same id."""
        return f"{self.id}-d{self.driver}"

    def search_hours(self, now: datetime) -> float:
        """How long it has searched, over all of its extensions."""
        since = self.searching_since
        going_on_s = 0.0 if since is None else (now - since).total_seconds()
        return (self.search_duration_s + going_on_s) / 3600.0


def transition_sweep(sweep: Sweep, to: SweepState, *, at: datetime) -> Sweep:
    """The sweep in another state; `InvalidSweepTransition` if the table does not have the move."""
    if to not in SWEEP_TRANSITIONS[sweep.state]:
        raise InvalidSweepTransition(sweep.id, sweep.state, to)
    return replace(
        sweep,
        state=to,
        updated_at=at,
        searching_since=at if to is SweepState.SEARCHING else None,
        search_duration_s=sweep.search_hours(at) * 3600.0,
        finished_at=at if to in FINISHED_SWEEP_STATES else None,
        mlflow_synced=False,
    )


def initial_state(spec: SweepSpec) -> SweepState:
    """Where a new sweep begins."""
    return SweepState.PROBING if spec.probe else SweepState.SEARCHING


def choose_pack_size(
    sweep: Sweep, probe: Probe | None, *, slots: int, gpu_kinds: frozenset[str] = frozenset()
) -> int:
    """How many trials train side by side with one teacher; 1: each by itself.

    `places` counts the packs that the cluster has room for: `auto` fills them all before any pack
    gets larger, for a place that is empty saves nothing. `gpu_kinds` are the kinds of GPUs that a
    pack may come to: the probe measured the memory of one, so with several `auto` makes no packs.
    """
    asked, base = sweep.spec.pack, sweep.spec.base
    if asked == "off" or base.resources.processes > 1:
        return 1
    if asked != "auto":
        return asked
    if probe is None or len(gpu_kinds) > 1:
        return 1
    # Trials with different seeds see different batches, and are never in one pack.
    at_once = max_concurrent_trials(sweep.spec)
    for_each = -(-at_once * sweep.spec.repeats // max(1, slots))
    return max(1, min(max_pack_size(probe.costs), _LARGEST_PACK, for_each, at_once))


def max_concurrent_trials(spec: SweepSpec) -> int:
    """How many trials may train at the same time, had the cluster room for all.

    What learns from trials is to have seen some before it suggests the rest; those that it draws at
    random need not wait.
    """
    trials = spec.budget.trials
    if spec.concurrency is not None:
        return min(spec.concurrency, trials)
    if isinstance(spec.algorithm, Tpe):
        return min(max(spec.algorithm.startup, trials // 2), trials)
    return trials


def describe_ineffective_parameters(probe: Probe) -> str | None:
    """Which parameters move nothing, and why a search over them would be in vain; none: all do."""
    idle = [
        f"{path} ({knob.detail})" for path, knob in probe.effects.items() if not knob.has_effect
    ]
    if not idle:
        return None
    return f"No effect: {'; '.join(sorted(idle))}. A search over that would find noise alone."


def teacher_warning(probe: Probe, known_map: float | None) -> str | None:
    """What is odd about the teacher on the sweep's own images; none: nothing is known to be."""
    measured = probe.teacher_map
    if measured is None:
        return None
    if measured < _LEAST_TEACHER_MAP:
        return f"The teacher's mAP on these images is {measured:.3f}: it has little to teach."
    if known_map is not None and measured < known_map * _LEAST_PART:
        return (
            f"The teacher's mAP on these images is {measured:.3f}, and {known_map:.3f} is what it "
            "was registered with: check its classes and how images are shown to it."
        )
    return None
