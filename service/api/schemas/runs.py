"""Requests and responses of runs, jobs, events, logs and comparisons."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.protocol.failure import FailureReason
from configs.protocol.records import PendingRecords, Progress
from configs.protocol.report import NoiseFloor, SeedGain, SeedSpread, Verdict
from configs.spec.base import Contract
from configs.spec.jobs import EvaluationSpec, ExportSpec, JobSpec, Task
from service.api.schemas.base import LaunchOptions, Priority, RequestModel, SpecSource
from service.domain.states import RunState, is_over
from service.domain.vocabulary import (
    BaselineMode,
    DesiredState,
    EventKind,
    ReportFormat,
)


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


class RunView(Contract):
    """A run as it is now."""

    id: str
    name: str
    task: Task
    preset: str | None
    project: str
    priority: int
    state: RunState
    desired: DesiredState
    spec: JobSpec
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


class RepeatedPairView(Contract):
    """A distilled run and its baseline, both with the same seed."""

    seed: int
    run_id: str
    state: RunState
    baseline_run_id: str
    baseline_state: RunState
    is_new: bool
    """Whether this request launched the run; False if it existed already."""


class RepeatView(Contract):
    """The pairs that the verdict of a run will be computed from, by seed."""

    run_id: str
    pairs: list[RepeatedPairView]


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


class FindingView(Contract):
    """A problem that the dry run found in a spec."""

    severity: Literal["error", "warning"]
    field: str
    code: str
    message: str


class PlannedBaselineView(Contract):
    """The baseline that a distilled run would be compared with."""

    run_id: str | None
    """An existing run. None if a new baseline would be queued with the run."""

    state: RunState | None
    best_map: float | None


class RunEstimateView(Contract):
    """The length of a training run."""

    epochs: int
    steps_per_epoch: int
    """Optimizer steps. One more if the images have both orientations and fill the last batch of
    neither."""

    steps: int
    duration_s: float | None
    """Seconds from its start to its end, without the time in the queue. None until a run with the
    same work in each step has succeeded in this project."""

    reference_run_id: str | None
    """The run that the duration was computed from."""


class PlanView(Contract):
    """The result of a dry run: the resolved spec and its findings."""

    spec: JobSpec
    estimate: RunEstimateView | None
    """None for a job that does not train, and if the dataset is not registered."""

    findings: list[FindingView]
    waiting_for: str | None
    baseline: PlannedBaselineView | None
    noise: NoiseFloor | None
    """Variation between runs that differ in their seed alone. None if it is not known yet."""


class NoiseView(Contract):
    """Variation between runs like the given one that differ in their seed alone."""

    noise: NoiseFloor | None
    """None as long as no two runs differ in their seed alone."""

    runs: list[str]
    """The runs that it is computed from, oldest first; each further one makes it more precise."""


class LevelLossShareView(Contract):
    """The share of the gradient of one loss term, at one feature level or at all."""

    term: str
    level: str
    """`all`, or a feature level as `p3`."""

    share: float
    cosine: float
    """Cosine with the gradient of the detector's own losses, from -1 to 1."""

    is_distillation: bool


class LossSharesView(Contract):
    """The shares of all terms of a run's loss, averaged over the newest measurements."""

    samples: int
    """Number of measurements so far."""

    step: int | None
    """The optimizer step of the last one. None before the first."""

    parts: list[LevelLossShareView]
    verdict: str


PairPack = Annotated[bool, Field(strict=True)]
"""Whether a run trains in one process with the baseline that is queued for it."""


class PriorityRequest(RequestModel):
    """A new priority of a run."""

    priority: Priority


class RunRequest(SpecSource):
    """A run to launch: a preset with changes by dotted field, or a complete spec."""

    baseline: BaselineMode = "auto"
    """`auto` compares a distilled run with its baseline, and queues that one if it does not exist
    yet. `off`: no comparison."""

    pack: PairPack = False
    """Whether the run and its new baseline train together in one process. They then start together
    and use the resources of one run; if the baseline exists already, the run trains by itself.
    Refused without a baseline, and with several processes."""


class RepeatRequest(RequestModel):
    """The number of seeds to train a distilled run and its baseline with."""

    seeds: Annotated[int, Field(ge=2, le=32, strict=True, examples=[3])] = 3
    """In total: existing pairs count, also those that still train."""

    pack: PairPack | None = None
    """Whether each new run and its new baseline train together in one process. None for the same
    as the run itself."""


class EvaluationRequest(EvaluationSpec, LaunchOptions):
    """A detector to evaluate: a complete spec and the launch options."""


class ExportRequest(ExportSpec, LaunchOptions):
    """A detector to export: a complete spec and the launch options."""


class ReportQuery(Contract):
    """The file format of a report."""

    format: ReportFormat = "html"


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
