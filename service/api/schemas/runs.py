"""What the API shows. The client speaks these too."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from configs.protocol.failure import FailureReason
from configs.protocol.records import PendingRecords, Progress
from configs.protocol.report import NoiseFloor, SeedGain, SeedSpread, Verdict
from configs.spec.base import Contract
from configs.spec.jobs import EvaluationSpec, ExportSpec, JobSpec, Task
from service.api.schemas.base import LaunchOptions, PageQuery, Priority, RequestModel
from service.domain.baselines import BaselineMode
from service.domain.repositories.baselines import ReportFormat
from service.domain.runs import DesiredState
from service.domain.states import RunState, is_over


class ComparisonView(Contract):
    """Whether distillation helped, and how sure that is; mAP from 0 to 1."""

    verdict: Verdict
    """`helps` and `hurts` rest on two or more pairs with different seeds, or on a known noise
    floor. One pair alone is always `cannot_tell`, and `seed_spread` says why."""

    seed_spread: SeedSpread
    """What is known of the scatter over seeds. `unknown`: one pair and no noise floor; POST
    /v1/runs/{run_id}:repeat trains the pairs that tell."""

    conclusion: str
    """What may be concluded, in one sentence: word for word as the report's headline, the shell
    and MLflow's tag `tandem.conclusion` say it."""

    difference: float
    """The run's mAP less its baseline's; over several seeds the mean."""

    low: float | None
    """The interval that holds the true difference in 95 % of cases; none: unknown."""

    high: float | None
    teacher_map: float | None
    gap_closed: float | None
    """The difference over the teacher's lead of the baseline; none: no teacher that leads."""

    basis: str
    """What the interval rests on."""

    images: int | None
    """Validation images that all runs were measured on; none: compared by an older version."""

    gains: list[SeedGain]
    """Each pair by itself, by seed; empty: compared by an older version."""


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
    not_before: datetime | None
    progress: Progress | None
    latest: dict[str, float]
    best_map: float | None
    best_epoch: int | None
    teacher_map: float | None
    baseline_run_id: str | None
    """The run of the same student, seed and batches without a teacher."""

    is_baseline_lost: bool
    """Whether that has failed or is cancelled: there is no verdict until it is retried."""

    comparison: ComparisonView | None
    report_run_id: str | None
    """The newest run that makes pages about it."""

    sweep_id: str | None = None
    trial: int | None = None
    """Of the sweep; none: it is of no sweep, or serves the whole of it."""

    mlflow_run_id: str | None
    mlflow_url: str | None
    pending_records: PendingRecords = Field(default_factory=dict)
    """Records that the service and MLflow lacked when its worker last spoke."""

    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    last_seen_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return is_over(self.state)


class RunPage(Contract):
    """Runs, newest first; `next_cursor` asks for those after."""

    items: list[RunView]
    next_cursor: str | None


class RepeatedPairView(Contract):
    """A distilled run and its baseline, both with one seed."""

    seed: int
    run_id: str
    state: RunState
    baseline_run_id: str
    baseline_state: RunState
    is_new: bool
    """Whether the run was launched by this request; else it was there already."""


class RepeatView(Contract):
    """The pairs that a run's verdict is going to rest on, by seed."""

    run_id: str
    pairs: list[RepeatedPairView]


class AttemptView(Contract):
    """One try of a run: one Ray job."""

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
    """Something that happened to a run."""

    id: int
    run_id: str
    at: datetime
    actor: str
    kind: str
    from_state: RunState | None
    to_state: RunState | None
    reason: FailureReason | None
    details: str


class MetricView(Contract):
    """One value of one metric."""

    key: str
    step: int
    value: float
    at: datetime


class FindingView(Contract):
    """Something that the dry run found."""

    severity: Literal["error", "warning"]
    field: str
    code: str
    message: str


class PlannedBaselineView(Contract):
    """The run that a taught one would be compared with."""

    run_id: str | None
    """One that is there; none: it would be booked."""

    state: RunState | None
    best_map: float | None


class PlanView(Contract):
    """A run that was not launched: what it would be, and what stands against it."""

    spec: JobSpec
    findings: list[FindingView]
    waiting_for: str | None
    baseline: PlannedBaselineView | None
    noise: NoiseFloor | None
    """What runs like it differ by if they differ in their seed alone; none: not known yet."""


class NoiseView(Contract):
    """How much runs like one differ by their seed alone."""

    noise: NoiseFloor | None
    """None: no two of them differ in their seed alone yet."""

    runs: list[str]
    """What it rests on, oldest first: each that succeeds sharpens it."""


class TermShareView(Contract):
    """One term's part of the gradient, at all feature levels or at one."""

    term: str
    level: str
    share: float
    cosine: float
    is_distillation: bool


class LossSharesView(Contract):
    """What each term of a run's loss does."""

    samples: int
    step: int | None
    parts: list[TermShareView]
    verdict: str


PairPack = Annotated[bool, Field(strict=True)]
"""Whether a run trains in one process with the baseline that is booked for it."""


class PriorityRequest(RequestModel):
    """Another place in the queue."""

    priority: Priority


class RunRequest(LaunchOptions):
    """A run to launch: a preset with changes by dotted field, or a whole spec."""

    preset: Annotated[str | None, Field(examples=["digits/bckd"])] = None
    changes: dict[str, JsonValue] = Field(
        default_factory=dict, examples=[{"distillation.loc_weight": 2.0}]
    )
    spec: dict[str, JsonValue] | None = None
    baseline: BaselineMode = "auto"
    """Whether a taught run is compared with the same student alone, which is booked with it if it
    is not there already; `off`: it is not compared."""

    pack: PairPack = False
    """Whether the run and the baseline that is booked with it train side by side in one process.
    They then start together and take the room of one run; beside a baseline that is there already
    the run trains alone. Refused without a baseline and with several processes."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.preset is None) == (self.spec is None):
            raise ValueError("give either preset or spec")
        if self.spec is not None and self.changes:
            raise ValueError("changes are for presets; put them into spec itself")
        return self


class RepeatRequest(RequestModel):
    """How many seeds a distilled run and its baseline are to be trained with."""

    seeds: Annotated[int, Field(ge=2, le=32, strict=True, examples=[3])] = 3
    """In all: those that are there already, or under way, count."""

    pack: PairPack | None = None
    """Whether each new run and its new baseline train side by side in one process; none: as the
    run itself was launched."""


class EvaluationRequest(EvaluationSpec, LaunchOptions):
    """A detector to measure: a whole spec, and what to call it."""


class ExportRequest(ExportSpec, LaunchOptions):
    """A detector to write in formats of others: a whole spec, and what to call it."""


class RunQuery(PageQuery):
    """Which runs."""

    state: RunState | None = None
    task: Task | None = None
    project: str | None = None
    preset: str | None = None
    tag: Annotated[str, Field(pattern=r"^[^=]+=.*$", description="key=value")] | None = None
    sweep: str | None = None
    """Only runs of this sweep."""

    trial: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Only runs of its trial with this number."""


class ReportQuery(Contract):
    """In which form."""

    format: ReportFormat = "html"


class LogQuery(Contract):
    """Which part of a run's log, and whether to wait for more."""

    follow: bool = False
    attempt: Annotated[int | None, Field(ge=1, le=999_999)] = None
    """Only this one; with `follow`, begin with it."""

    offset: Annotated[int, Field(ge=0)] = 0
    """Bytes of the attempt's log to leave out."""

    tail: Annotated[int | None, Field(ge=1, le=10_000)] = None
    """Only so many last lines, over all attempts."""

    search: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """Only lines that contain this, as `attempt:line: text`."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.follow and (self.tail is not None or self.search is not None):
            raise ValueError("follow cannot be joined with tail or search")
        if self.tail is not None and self.search is not None:
            raise ValueError("give either tail or search")
        if self.offset and self.attempt is None:
            raise ValueError("an offset is of one attempt: name it")
        return self


class EventQuery(Contract):
    """Which events."""

    after: Annotated[int, Field(ge=0, lt=2**31)] = 0
    run: str | None = None
    project: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200
