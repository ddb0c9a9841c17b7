"""What the API shows. The client speaks these too."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from configs.spec import (
    ClassNames,
    Contract,
    DatasetManifest,
    Detector,
    FailureReason,
    JobSpec,
    Progress,
    Task,
)
from service.domain.access import Role
from service.domain.runs import Desired
from service.domain.states import RunState, is_over


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
    sweep_id: str | None = None
    trial: int | None = None
    """Of the sweep; none: it is of no sweep, or serves the whole of it."""

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


class DatasetView(Contract):
    """A registered dataset."""

    name: str
    root: str
    manifest: DatasetManifest
    registered_at: datetime


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


class CheckView(Contract):
    """One thing that the service needs."""

    name: str
    ok: bool
    detail: str
    since: datetime


class HealthView(Contract):
    """Whether the service and what it needs answer."""

    status: Literal["ready", "degraded", "unready"]
    ray: bool | None = None
    """None, and nothing below: who asked showed no token."""

    mlflow: bool | None = None
    checks: list[CheckView] = Field(default_factory=list)
    runs_by_state: dict[RunState, int] = Field(default_factory=dict)


class ProjectView(Contract):
    """A project."""

    name: str
    weight: float
    max_runs: int | None
    max_gpus: int | None


class TokenView(Contract):
    """Somebody's access."""

    id: str
    name: str
    role: Role
    project: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewTokenView(Contract):
    """A token that was just made, and its text, which is shown once."""

    token: TokenView
    text: str


class AuditView(Contract):
    """A request that was to change something."""

    id: int
    at: datetime
    actor: str
    method: str
    path: str
    status: int
    request_id: str
    address: str
    run_id: str | None
    token_id: str | None


class AuditPage(Contract):
    """The newest first; `next_before` asks for those before."""

    items: list[AuditView]
    next_before: int | None


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
