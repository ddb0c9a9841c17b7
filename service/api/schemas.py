"""What the API shows. The client speaks these too."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from configs.spec import (
    Behind,
    ClassNames,
    Contract,
    DatasetManifest,
    Detector,
    FailureReason,
    JobSpec,
    NoiseFloor,
    Progress,
    SeedGain,
    SeedSpread,
    Task,
    Verdict,
)
from service.domain.access import Role
from service.domain.runs import Desired
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
    lead_closed: float | None
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
    baseline: str | None
    """The run of the same student, seed and batches without a teacher."""

    is_baseline_lost: bool
    """Whether that has failed or is cancelled: there is no verdict until it is retried."""

    comparison: ComparisonView | None
    report: str | None
    """The newest run that makes pages about it."""

    sweep_id: str | None = None
    trial: int | None = None
    """Of the sweep; none: it is of no sweep, or serves the whole of it."""

    mlflow_run_id: str | None
    mlflow_url: str | None
    behind: Behind = Field(default_factory=dict)
    """Records that the service and MLflow lacked when its worker last spoke."""

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


class RepeatedPairView(Contract):
    """A distilled run and its baseline, both with one seed."""

    seed: int
    run: str
    state: RunState
    baseline: str
    baseline_state: RunState
    is_new: bool
    """Whether the run was launched by this request; else it was there already."""


class RepeatView(Contract):
    """The pairs that a run's verdict is going to rest on, by seed."""

    run: str
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

    run: str | None
    """One that is there; none: it would be booked."""

    state: RunState | None
    best_map: float | None


class PlanView(Contract):
    """A run that was not launched: what it would be, and what stands against it."""

    spec: JobSpec
    findings: list[FindingView]
    waits_for: str | None
    baseline: PlannedBaselineView | None
    noise: NoiseFloor | None
    """What runs like it differ by if they differ in their seed alone; none: not known yet."""


class NoiseView(Contract):
    """How much runs like one differ by their seed alone."""

    noise: NoiseFloor | None
    """None: no two of them differ in their seed alone yet."""

    runs: list[str]
    """What it rests on, oldest first: each that succeeds sharpens it."""


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
