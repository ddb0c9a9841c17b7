"""Runs, their attempts, events and metric points."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from configs.protocol.failure import FailureReason
from configs.protocol.names import DEFAULT_PROJECT
from configs.protocol.records import PendingRecords, Progress, StopKind
from configs.spec.base import Task
from configs.spec.jobs import JobSpec, get_task
from service.domain.errors.conflicts import InvalidTransition
from service.domain.states import RunState, can_transition, is_over
from service.domain.vocabulary import DesiredState, EventKind

MAX_NAME_LENGTH = 200
"""In characters; longer names are truncated."""


@dataclass(frozen=True)
class QueueEntry:
    """What decides when a run starts, and what it waits for."""

    priority: int = 0
    """Runs of a larger priority start first, and may preempt those of a smaller one."""

    waiting_for: str | None = None
    """Why it is still queued, as in `a node with 2 CPUs and 1 GPUs to become free`."""

    preempted_for: str | None = None
    """The id of the run for which this one is being preempted; None if it is not."""


@dataclass(frozen=True)
class PackMembership:
    """With how many other runs a run may train in one process, and the job where it does."""

    size: int = 1
    """How many runs may train side by side in its process, itself included."""

    job: str | None = None
    """The Ray job that its current attempt shares with its pack; None if it is in no pack."""


@dataclass(frozen=True)
class Retries:
    """What decides whether and when a failed run gets another attempt."""

    consecutive_failures: int = 0
    """Failed attempts in a row that did not train further than any before."""

    max_step: int = 0
    """The last step that any earlier attempt reached."""

    not_before: datetime | None = None
    """No attempt starts earlier: the retry delay after a failure."""


@dataclass(frozen=True)
class IngestState:
    """How far the service has received what the worker of a run reports."""

    next_spool_position: int = 0
    """The position of the first record that the service does not have."""

    pending_records: PendingRecords = field(default_factory=dict)
    """How many records of its spool each destination lacks, as its worker last reported."""

    last_seen_at: datetime | None = None
    """When its worker last delivered."""

    pending_outcome: str | None = None
    """The outcome that the current attempt reported, as JSON, until its job is over."""


@dataclass(frozen=True)
class RunResults:
    """Progress and metrics of a run, as its worker last reported."""

    progress: Progress | None = None
    latest: dict[str, float] = field(default_factory=dict)
    """The last value of each metric."""

    best_map: float | None = None
    best_epoch: int | None = None


@dataclass(frozen=True)
class RunTracking:
    """The run in MLflow."""

    mlflow_run_id: str | None = None
    mlflow_synced: bool = True
    """Whether MLflow shows the status that corresponds to the state."""


@dataclass(frozen=True)
class Lineage:
    """How a run relates to others: equal runs, its baseline, its report, its sweep."""

    spec_digest: str | None = None
    """Equal for runs that compute the same numbers; None for other jobs."""

    seedless_digest: str | None = None
    """Equal for runs that differ in their seed alone."""

    seed_group_key: str | None = None
    """Equal for runs whose results scatter alike over seeds."""

    teacher_key: str | None = None
    """Equal for runs that measure the same teacher on the same images; None without a teacher."""

    baseline_run_id: str | None = None
    """A run of the same student, seed and batches without a teacher."""

    is_baseline_lost: bool = False
    """Whether its baseline has failed or is cancelled, as far as its events say."""

    report_run_id: str | None = None
    """The newest report job about this run."""

    is_report_read: bool = False
    """For a report job, whether its comparisons have been imported."""

    sweep_id: str | None = None
    """The sweep that it belongs to."""

    trial: int | None = None
    """The trial that it belongs to; None for jobs of the whole sweep, as its probe."""


@dataclass(frozen=True)
class Run:
    """A request to train or to run another job, from its launch on."""

    id: str
    name: str
    preset: str | None
    spec: JobSpec
    state: RunState
    created_at: datetime
    updated_at: datetime
    project: str = DEFAULT_PROJECT
    desired: DesiredState = "run"
    attempt: int = 0
    """The number of the current attempt; 0 before the first."""

    reason: FailureReason | None = None
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stop_requested_at: datetime | None = None
    queue: QueueEntry = field(default_factory=QueueEntry)
    pack: PackMembership = field(default_factory=PackMembership)
    retries: Retries = field(default_factory=Retries)
    ingest: IngestState = field(default_factory=IngestState)
    results: RunResults = field(default_factory=RunResults)
    tracking: RunTracking = field(default_factory=RunTracking)
    lineage: Lineage = field(default_factory=Lineage)

    @property
    def task(self) -> Task:
        return get_task(self.spec)

    @property
    def stop_kind(self) -> StopKind | None:
        """Why its current attempt must stop; None if it may continue."""
        if self.desired == "cancelled" or self.is_over:
            return "cancel"
        if self.desired == "paused":
            return "pause"
        return "preempt" if self.queue.preempted_for is not None else None

    @property
    def submission_id(self) -> str:
        """The id of the current attempt, and of its Ray job unless it is in a pack."""
        return f"{self.id}-a{self.attempt}"

    @property
    def job_id(self) -> str:
        """The Ray job that the current attempt runs in."""
        return self.pack.job or self.submission_id

    @property
    def is_over(self) -> bool:
        return is_over(self.state)


@dataclass(frozen=True)
class Attempt:
    """An attempt of a run: its Ray job, and how it ended."""

    run_id: str
    number: int
    submission_id: str
    created_at: datetime
    processes: int = 1
    """The number of training processes; fewer than the spec's after nodes were lost."""

    num_cpus: int = 1
    num_gpus: int = 0
    """Of each process, as `num_cpus`; members of a pack share theirs."""

    pack_job: str | None = None
    """The Ray job that it shares with its pack; None if it is in no pack."""

    ended_at: datetime | None = None
    host: str | None = None
    node_id: str | None = None
    """Ray's id of the node where its job runs. After a failure of several processes, the node where
    one of them failed, or None if that is unknown."""

    device: str | None = None
    resumed_from_epoch: int | None = None
    exit_code: int | None = None
    reason: FailureReason | None = None
    message: str = ""


@dataclass(frozen=True)
class Event:
    """Something that happened to a run; immutable and never deleted."""

    run_id: str
    at: datetime
    actor: str
    """A person's token, or the part of the system that acted: `service`, `worker`, `queue`, ..."""

    kind: EventKind
    details: str
    from_state: RunState | None = None
    to_state: RunState | None = None
    reason: FailureReason | None = None
    id: int | None = None
    """Its number among all events, which the store assigns."""


def truncate_with_suffix(name: str, suffix: str) -> str:
    """`name + suffix`, with the name truncated so that both fit into `MAX_NAME_LENGTH`."""
    return name[: MAX_NAME_LENGTH - len(suffix)] + suffix


def transition(run: Run, to: RunState, *, at: datetime) -> Run:
    """The run in another state; raises `InvalidTransition` if it may not follow."""
    if not can_transition(run.state, to):
        raise InvalidTransition(run.id, run.state, to)
    will_be_over = is_over(to)
    return replace(
        run,
        state=to,
        updated_at=at,
        started_at=run.started_at or (at if to is RunState.RUNNING else None),
        finished_at=at if will_be_over else None,
        queue=replace(run.queue, waiting_for=None),
        tracking=replace(run.tracking, mlflow_synced=not will_be_over),
    )


def transition_event(
    run: Run,
    to: RunState,
    *,
    actor: str,
    at: datetime,
    details: str,
    reason: FailureReason | None = None,
) -> Event:
    """The event of a transition; `run` is the run before it."""
    kind = EventKind.STATE_CHANGED
    return Event(run.id, at, actor, kind, details, run.state, to, reason)


def name_visible_to(run: Run, *, of: Run) -> str:
    """How messages of run `of` name `run`: runs of other projects stay anonymous."""
    return f"run {run.id}" if run.project == of.project else "a run of another project"


@dataclass(frozen=True)
class MetricPoint:
    """One value of one metric."""

    key: str
    step: int
    value: float
    at: datetime
