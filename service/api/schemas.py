"""What the API takes and shows. The client speaks these too."""

import json
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from configs.spec import (
    ClassNames,
    Contract,
    DatasetManifest,
    Detector,
    EvaluationSpec,
    ExportSpec,
    FailureReason,
    JobSpec,
    Name,
    Progress,
    Sha256,
    Task,
)
from service.domain.runs import Desired
from service.domain.states import RunState, is_over

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
"""A name is an argument of the job's command line: no shell takes a NUL there."""


RunName = Annotated[str, Field(min_length=1, max_length=200, pattern=_PRINTABLE)]
"""What a run is called on screen."""

Priority = Annotated[int, Field(ge=-100, le=100)]


class Asked(Contract):
    """What a person asks; text that cannot be written down is refused."""

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, document: JsonValue) -> JsonValue:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "a text holds half of a character (a surrogate without its pair)"
            ) from error
        return document


class Placed(Asked):
    """Whose run it is, and how it stands to others."""

    name: RunName | None = None
    project: Name | None = None
    """Whose share of the cluster it takes; none: the caller's own, else `default`."""

    priority: Priority = 0
    """The larger goes first, and may have runs of smaller priority make room."""


class PriorityRequest(Asked):
    """Another place in the queue."""

    priority: Priority


class RunRequest(Placed):
    """A run to launch: a preset with changes by dotted field, or a whole spec."""

    preset: Annotated[str | None, Field(examples=["digits/bckd"])] = None
    changes: dict[str, JsonValue] = Field(
        default_factory=dict, examples=[{"distillation.loc_weight": 2.0}]
    )
    spec: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.preset is None) == (self.spec is None):
            raise ValueError("give either preset or spec")
        if self.spec is not None and self.changes:
            raise ValueError("changes are for presets; put them into spec itself")
        return self


class EvaluationRequest(EvaluationSpec, Placed):
    """A detector to measure: a whole spec, and what to call it."""


class ExportRequest(ExportSpec, Placed):
    """A detector to write in formats of others: a whole spec, and what to call it."""


class RunView(Contract):
    """A run as it is now."""

    id: str
    name: str
    task: Task
    preset: str | None
    project: str
    priority: int
    state: RunState
    desired: Desired
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
    mlflow_run_id: str | None
    mlflow_url: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    heard_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return is_over(self.state)


class PageQuery(Contract):
    """Which part of a list."""

    cursor: str | None = None
    """The last id of the page before."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50


class RunQuery(PageQuery):
    """Which runs."""

    state: RunState | None = None
    task: Task | None = None
    project: str | None = None
    preset: str | None = None
    tag: Annotated[str, Field(pattern=r"^[^=]+=.*$", description="key=value")] | None = None


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


class RunPage(Contract):
    """Runs, newest first; `next_cursor` asks for those after."""

    items: list[RunView]
    next_cursor: str | None


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


class PlanView(Contract):
    """A run that was not launched: what it would be, and what stands against it."""

    spec: JobSpec
    findings: list[FindingView]
    waits_for: str | None


class PresetView(Contract):
    """An experiment with a name."""

    name: str
    summary: str


class DatasetRequest(Asked):
    """A dataset's folder to be given a name."""

    root: Annotated[str, Field(min_length=1)]
    name: Name | None = None
    replace: bool = False


class DatasetView(Contract):
    """A registered dataset."""

    name: str
    root: str
    manifest: DatasetManifest
    registered_at: datetime


class TeacherRequest(Asked):
    """A trained detector to be given a name."""

    name: Name
    checkpoint: Annotated[str, Field(min_length=1)]
    detector: Detector
    classes: ClassNames
    sha256: Sha256 | None = None
    measured_map: Annotated[float, Field(ge=0, le=1)] | None = None
    source: Annotated[str, Field(max_length=2000)] = ""
    replace: bool = False


class TeacherView(Contract):
    """A registered teacher."""

    name: str
    checkpoint: str
    sha256: str
    detector: Detector
    classes: ClassNames
    measured_map: float | None
    source: str
    registered_at: datetime


class HealthView(Contract):
    """Whether the service and what it needs answer."""

    status: Literal["ready", "degraded"]
    ray: bool
    mlflow: bool
    runs_by_state: dict[RunState, int]


class FieldProblem(Contract):
    """One field that is wrong."""

    field: str
    code: str
    message: str


class BudgetPartView(Contract):
    """One term's part of the gradient, at all feature levels or at one."""

    term: str
    place: str
    share: float
    cosine: float
    is_taught: bool


class BudgetView(Contract):
    """What each term of a run's loss does."""

    looks: int
    step: int | None
    parts: list[BudgetPartView]
    verdict: str


class ProblemView(Contract):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] = Field(default_factory=list)
    advice: str | None = None
    """What to do about it."""
