"""A run: what was asked, where it is, what was heard of it."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from configs.protocol.failure import FailureReason
from configs.protocol.names import DEFAULT_PROJECT
from configs.protocol.records import PendingRecords, Progress, StopKind
from configs.spec.jobs import JobSpec, Task, get_task
from service.domain.errors import InvalidTransition
from service.domain.states import RunState, can_transition, is_over

DesiredState = Literal["run", "paused", "cancelled"]

MAX_NAME_LENGTH = 200
"""In characters; what is longer is cut off."""


@dataclass(frozen=True)
class Run:
    """One request to train, for life."""

    id: str
    name: str
    preset: str | None
    spec: JobSpec
    state: RunState
    created_at: datetime
    updated_at: datetime
    project: str = DEFAULT_PROJECT
    priority: int = 0
    """The larger goes first, and may have a smaller one make room."""

    desired: DesiredState = "run"
    preempted_for: str | None = None
    """The run that this one's attempt makes room for."""

    attempt: int = 0
    """Number of the current attempt; 0 before the first."""

    consecutive_failures: int = 0
    """Attempts in a row that ended badly without getting further than any before."""

    max_step: int = 0
    """The last step of all attempts but the current one."""

    not_before: datetime | None = None
    """No attempt starts earlier: the pause after a bad end."""

    queue_position: int | None = None
    """Its place among the runs that wait, counted from 1."""

    reason: FailureReason | None = None
    message: str = ""
    waiting_for: str | None = None
    next_spool_position: int = 0
    """Position of the first record that we do not have."""

    pending_records: PendingRecords = field(default_factory=dict)
    """Records of its spool that each destination lacks, as its worker said last."""

    progress: Progress | None = None
    latest: dict[str, float] = field(default_factory=dict)
    best_map: float | None = None
    best_epoch: int | None = None
    mlflow_run_id: str | None = None
    mlflow_synced: bool = True
    """Whether MLflow shows the status that our state implies."""

    started_at: datetime | None = None
    finished_at: datetime | None = None
    last_seen_at: datetime | None = None
    stop_requested_at: datetime | None = None
    pending_outcome: str | None = None
    """The last word of the current attempt, before its job is seen to be over."""

    spec_digest: str | None = None
    """Equal for runs that compute the same numbers; none: a job, or a run of old times."""

    seedless_digest: str | None = None
    """Equal for runs that differ in their seed alone."""

    seed_group_key: str | None = None
    """Equal for runs that scatter alike over seeds."""

    baseline_run_id: str | None = None
    """Its twin: the same student, seed and batches without a teacher."""

    is_baseline_lost: bool = False
    """Whether it was told that the twin has failed or is cancelled."""

    report_run_id: str | None = None
    """The newest run that makes pages about this one."""

    is_report_read: bool = False
    """Of a report: whether the comparisons in it are kept."""

    sweep_id: str | None = None
    """The sweep that it is part of."""

    trial: int | None = None
    """The sweep's trial that it is part of; none: it serves the whole sweep."""

    pack_size: int = 1
    """How many runs it may train side by side with, itself included."""

    pack_job: str | None = None
    """The Ray job that its current attempt shares with others; none: it has one of its own."""

    @property
    def task(self) -> Task:
        """What it does: train, evaluate or export."""
        return get_task(self.spec)

    @property
    def stop_kind(self) -> StopKind | None:
        """Why its attempt is to leave; none: it is not."""
        if self.desired == "cancelled" or self.is_over:
            return "cancel"
        if self.desired == "paused":
            return "pause"
        return "preempt" if self.preempted_for is not None else None

    @property
    def submission_id(self) -> str:
        """The current attempt's name, and its Ray job's unless it is part of a pack; the same
        number gives the same id."""
        return f"{self.id}-a{self.attempt}"

    @property
    def job_id(self) -> str:
        """The Ray job that the current attempt is part of."""
        return self.pack_job or self.submission_id

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return is_over(self.state)


@dataclass(frozen=True)
class Attempt:
    """One try of a run: one Ray job, and how it ended."""

    run_id: str
    number: int
    submission_id: str
    created_at: datetime
    processes: int = 1
    """How many train; fewer than the spec's where nodes were lost."""

    num_cpus: int = 1
    num_gpus: int = 0
    """Of each process; members of a pack share what they have."""

    pack_job: str | None = None
    """The Ray job that it shared with others."""

    ended_at: datetime | None = None
    host: str | None = None
    node_id: str | None = None
    """Of the node where its job runs, as Ray knows it; after a failure of several processes, of the
    node where one of them failed, or none if that is not known."""

    device: str | None = None
    resumed_from_epoch: int | None = None
    exit_code: int | None = None
    reason: FailureReason | None = None
    message: str = ""


@dataclass(frozen=True)
class Event:
    """One thing that happened to a run; never changed."""

    run_id: str
    at: datetime
    actor: str
    kind: str
    details: str
    from_state: RunState | None = None
    to_state: RunState | None = None
    reason: FailureReason | None = None
    id: int | None = None
    """Its place among all events; given by the store."""


def truncate_with_suffix(name: str, ending: str) -> str:
    """A name with an ending that is kept whole; the name is cut off where both are too long."""
    return name[: MAX_NAME_LENGTH - len(ending)] + ending


def transition(run: Run, to: RunState, *, at: datetime) -> Run:
    """The run in another state; `InvalidTransition` if the table does not have the move."""
    if not can_transition(run.state, to):
        raise InvalidTransition(run.id, run.state, to)
    ends = is_over(to)
    return replace(
        run,
        state=to,
        updated_at=at,
        started_at=run.started_at or (at if to is RunState.RUNNING else None),
        finished_at=at if ends else None,
        waiting_for=None,
        queue_position=None,
        mlflow_synced=not ends,
    )


def name_visible_to(run: Run, *, of: Run) -> str:
    """What another run is told of a run: of one of another project only that it is."""
    return f"run {run.id}" if run.project == of.project else "a run of another project"


@dataclass(frozen=True)
class MetricPoint:
    """One value of one metric."""

    key: str
    step: int
    value: float
    at: datetime
