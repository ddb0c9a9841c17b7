"""What the API shows of a run: itself, its attempts, events, metrics, noise floor and log.

Imports no specs, whose models take longer to build than a request takes.
"""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from configs.protocol.comparison import NoiseFloor, SeedGain, SeedSpread, Verdict
from configs.protocol.failure import FailureReason
from configs.protocol.records import PendingRecords, Progress
from configs.spec.base import Contract, Task
from service.domain.states import RunState, is_over
from service.domain.vocabulary import DesiredState, EventKind


class ComparisonView(Contract):
    """Whether distillation helped, and how certain that is; mAP from 0 to 1."""

    verdict: Verdict
    """`helps` and `hurts` need two or more pairs with different seeds, or a known noise floor. A
    single pair is always `cannot_tell`; `seed_spread` tells why."""

    seed_spread: SeedSpread
    """What is known of the variation over seeds. `unknown`: one pair and no noise floor; POST
    /v1/runs/{run_id}:repeat trains further pairs."""

    conclusion: str
    """The conclusion in one sentence, the same as in the report's headline, in the shell and in
    MLflow's tag `tandem.conclusion`."""

    difference: float
    """mAP of the run minus mAP of its baseline; the mean over seeds."""

    low: float | None
    """Lower bound of the 95 % interval of the true difference. None if it is unknown."""

    high: float | None
    """Upper bound of that interval."""

    teacher_map: float | None
    gap_closed: float | None
    """The difference divided by the gap between teacher and baseline. None if the teacher is not
    better than the baseline."""

    basis: str
    """What the interval was computed from."""

    images: int | None
    """Number of validation images that all runs were evaluated on. None in older comparisons."""

    gains: list[SeedGain]
    """The gain of each pair, by seed. Empty in older comparisons."""


class RunDetails(Contract):
    """A run as it is now, without its spec."""

    id: str
    name: str
    task: Task
    preset: str | None
    project: str
    priority: int
    state: RunState
    desired: DesiredState
    attempt: int
    reason: FailureReason | None
    message: str
    advice: str | None
    waiting_for: str | None
    queue_position: int | None
    """Its position in its project's queue, from 1, by priority and age. None if it has none."""

    not_before: datetime | None
    progress: Progress | None
    latest: dict[str, float]
    best_map: float | None
    best_epoch: int | None
    teacher_map: float | None
    baseline_run_id: str | None
    """The run of the same student, seed and batches without a teacher. None if there is none."""

    is_baseline_lost: bool
    """Whether the baseline failed or was cancelled: no verdict until it is retried."""

    comparison: ComparisonView | None
    report_run_id: str | None
    """The newest report job about this run. None if no report was requested."""

    sweep_id: str | None = None
    trial: int | None = None
    """The number of its trial. None for runs that belong to no trial of a sweep."""

    mlflow_run_id: str | None
    mlflow_url: str | None
    """Its page in MLflow. None until MLflow has the run."""

    compare_url: str | None = None
    """MLflow's page with the mAP of the run and of all runs it is compared with.

    None without a baseline, until MLflow has both runs, and in lists.
    """

    pending_records: PendingRecords = Field(default_factory=dict)
    """Records not yet delivered to each destination, as of the worker's last report."""

    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    last_seen_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether the run is in a final state."""
        return is_over(self.state)


class AttemptView(Contract):
    """One attempt of a run, which is one Ray job."""

    number: int
    submission_id: str
    created_at: datetime
    processes: int
    ended_at: datetime | None
    host: str | None
    node_id: str | None
    device: str | None
    resumed_from_epoch: int | None
    exit_code: int | None
    reason: FailureReason | None
    message: str


class EventView(Contract):
    """An event in the life of a run."""

    id: int
    run_id: str
    at: datetime
    actor: str
    kind: EventKind
    from_state: RunState | None
    to_state: RunState | None
    reason: FailureReason | None
    details: str


class MetricView(Contract):
    """A metric value at one step."""

    key: str
    step: int
    value: float
    at: datetime


class NoiseView(Contract):
    """Variation between runs like the given one that differ in their seed alone."""

    noise: NoiseFloor | None
    """None as long as no two runs differ in their seed alone."""

    runs: list[str]
    """The runs that it is computed from, oldest first; each further one makes it more precise."""


class LogQuery(Contract):
    """Selects a part of a run's log, or streams it."""

    follow: bool = False
    attempt: Annotated[int | None, Field(ge=1, le=999_999)] = None
    """Only this attempt. With `follow`, the first attempt to show."""

    offset: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """Bytes to skip at the start of the attempt's log."""

    tail: Annotated[int | None, Field(ge=1, le=10_000)] = None
    """Number of lines from the end, over all attempts."""

    search: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """Only lines that contain this text, as `attempt:line: text`."""

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        if self.follow and (self.tail is not None or self.search is not None):
            raise ValueError("follow cannot be combined with tail or search")
        if self.tail is not None and self.search is not None:
            raise ValueError("give either tail or search, not both")
        if self.offset and self.attempt is None:
            raise ValueError("an offset applies to one attempt: give attempt too")
        return self
