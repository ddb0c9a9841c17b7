"""A sweep: its request, state and driver, and its transitions as one table."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from configs.protocol.names import DEFAULT_PROJECT
from configs.protocol.probe import Probe, max_pack_size
from configs.spec.search import Tpe
from configs.spec.sweep import SweepSpec
from service.domain.errors.conflicts import InvalidSweepTransition


class SweepState(StrEnum):
    """The state of a sweep; `SWEEP_TRANSITIONS` says how they follow each other."""

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
"""The states that may follow each state. Only a person makes a finished sweep search again."""

FINISHED_SWEEP_STATES: Final = frozenset({_OK, _BAD, _STOP})
"""States that a sweep does not leave by itself."""

UNFINISHED_SWEEP_STATES: Final = frozenset(SweepState) - FINISHED_SWEEP_STATES

_MAX_AUTO_PACK_SIZE = 8
"""The limit of `pack: auto`: beyond it, a larger pack saves little of a step."""

_MIN_TEACHER_MAP = 0.01
_MIN_TEACHER_MAP_RATIO = 0.5
"""Relative to the mAP that the teacher was registered with, on other images."""

DesiredSweepState = Literal["search", "stop"]


@dataclass(frozen=True)
class Sweep:
    """A search around a run, from its launch on; its log says what happened in it."""

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
    """The priority of its trials' runs."""

    desired: DesiredSweepState = "search"
    message: str = ""
    driver: int = 0
    """The number of the driver that may append to the log; 0 before the first."""

    driver_log_start: int = 0
    """The length of the log when this driver was submitted."""

    consecutive_failures: int = 0
    """Drivers in a row that failed without a new entry."""

    not_before: datetime | None = None
    """No driver starts earlier: the delay after a failure."""

    last_seen_at: datetime | None = None
    """When its driver last sent a request, to within some seconds."""

    searching_since: datetime | None = None
    search_duration_s: float = 0.0
    """How long it searched before `searching_since`."""

    pack_size: int = 1
    """How many of its students train side by side with one teacher; fixed when it searches."""

    slots: int = 1
    """How many jobs of its students fitted into the cluster when `pack_size` was fixed."""

    probe: Probe | None = None
    probe_run_id: str | None = None
    report_run_id: str | None = None
    mlflow_run_id: str | None = None
    mlflow_synced: bool = False
    """Whether MLflow shows its final status, with all of its trials as nested runs."""

    finished_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether it does not leave its state by itself."""
        return self.state in FINISHED_SWEEP_STATES

    @property
    def driver_job(self) -> str:
        """The submission id of the current driver's Ray job."""
        return f"{self.id}-d{self.driver}"

    def search_hours(self, now: datetime) -> float:
        """How long it has searched, extensions included."""
        since = self.searching_since
        current_s = 0.0 if since is None else (now - since).total_seconds()
        return (self.search_duration_s + current_s) / 3600.0


def transition_sweep(sweep: Sweep, to: SweepState, *, at: datetime) -> Sweep:
    """The sweep in another state; raises `InvalidSweepTransition` if it may not follow."""
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
    return SweepState.PROBING if spec.probe else SweepState.SEARCHING


def choose_pack_size(
    sweep: Sweep, probe: Probe | None, *, slots: int, gpu_kinds: frozenset[str] = frozenset()
) -> int:
    """How many trials train side by side with one teacher; 1 if each trains by itself.

    `slots` counts the packs that fit into the cluster: `auto` fills them all before it makes packs
    larger, since an empty slot saves nothing. `gpu_kinds` are the kinds of GPUs that a pack may
    run on: the probe measured the memory of one, so `auto` makes no packs if there are several.
    """
    requested, base = sweep.spec.pack, sweep.spec.base
    if requested == "off" or base.resources.processes > 1:
        return 1
    if requested != "auto":
        return requested
    if probe is None or len(gpu_kinds) > 1:
        return 1
    # Trials with different seeds have different batches, so they are never in one pack.
    concurrent = max_concurrent_trials(sweep.spec)
    per_slot = -(-concurrent * sweep.spec.repeats // max(1, slots))
    return max(1, min(max_pack_size(probe.costs), _MAX_AUTO_PACK_SIZE, per_slot, concurrent))


def max_concurrent_trials(spec: SweepSpec) -> int:
    """How many trials may train at the same time if they all fit into the cluster.

    TPE should know the results of some trials before it suggests the others; those that it samples
    at random need not wait.
    """
    trials = spec.budget.trials
    if spec.concurrency is not None:
        return min(spec.concurrency, trials)
    if isinstance(spec.algorithm, Tpe):
        return min(max(spec.algorithm.startup, trials // 2), trials)
    return trials


def describe_ineffective_parameters(probe: Probe) -> str | None:
    """Which parameters have no effect, as a message; None if all have one."""
    ineffective = [
        f"{path} ({effect.detail})"
        for path, effect in probe.effects.items()
        if not effect.has_effect
    ]
    if not ineffective:
        return None
    return f"No effect: {'; '.join(sorted(ineffective))}. A search over it would only find noise."


def teacher_warning(probe: Probe, known_map: float | None) -> str | None:
    """A warning if the teacher is poor on the sweep's images; None if it is good or unmeasured."""
    measured = probe.teacher_map
    if measured is None:
        return None
    if measured < _MIN_TEACHER_MAP:
        return f"The teacher's mAP on these images is {measured:.3f}: it has little to teach."
    if known_map is not None and measured < known_map * _MIN_TEACHER_MAP_RATIO:
        return (
            f"The teacher's mAP on these images is {measured:.3f}, and it was registered with "
            f"{known_map:.3f}: check its classes and its preprocessing."
        )
    return None
