"""Requests and responses of autopilots and their decisions."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from configs.spec.autopilot import AutopilotBudget, AutopilotSpec
from configs.spec.base import Contract, Name
from configs.spec.jobs import ExportFormat
from configs.spec.sweep import Values
from service.api.schemas.base import PageQuery, RequestModel, SpecSource
from service.domain.autopilot.autopilots import (
    UNFINISHED_PHASES,
    AutopilotDesire,
    AutopilotPhase,
)
from service.domain.autopilot.history import (
    AutopilotEntry,
    AutopilotStage,
    ConfirmedGain,
    StageResult,
)
from service.domain.states import RunState


class AutopilotLaunchRequest(SpecSource):
    """An autopilot to launch: the base run as in `RunRequest`, what to try, and what to spend."""

    budget: Annotated[AutopilotBudget, Field(examples=[{"hours": 6.0}])]
    teachers: Annotated[list[Name], Field(min_length=1, max_length=16)] | Literal["auto"] | None = (
        None
    )
    """Registered teachers, or `auto` for all with the classes of the dataset, or else a larger one
    that is trained. None for that of the base run, or `auto` if it has none."""

    trained_teachers: Annotated[list[Name], Field(max_length=4)] = Field(default_factory=list)
    """Names of backbones to train as teachers."""

    students: Annotated[list[Name], Field(max_length=16)] = Field(
        default_factory=list, examples=[["resnet18", "efficientnet_lite0"]]
    )
    """Names of backbones. Empty for that of the base run."""

    methods: Annotated[list[Name], Field(max_length=64)] = Field(default_factory=list)
    """Names of distillation methods. Empty for all that fit."""

    schedules: Annotated[list[Values], Field(max_length=4)] = Field(default_factory=list)
    """Fields of other schedules that are tried for the student alone with its best learning
    rate, as `{"schedule.policy.kind": "cosine"}`."""

    max_latency_ms: Annotated[float, Field(gt=0.0)] | None = None
    """Students whose forward pass of one image takes longer are not trained."""

    formats: Annotated[tuple[ExportFormat, ...], Field(min_length=1, max_length=3)] = (
        "checkpoint",
        "onnx",
        "mlflow",
    )
    """Of the student that is delivered."""

    paused: bool = False
    """Whether it waits for `resume` once its probes have ended and its plan is known."""


class AutopilotExtensionRequest(RequestModel):
    """More budget, in the unit of the first one."""

    budget: AutopilotBudget


class StageView(Contract):
    """A stage of an autopilot: what it is planned to cost, what it has cost, and its result."""

    stage: AutopilotStage
    runs: int
    """At most; those that are stopped early count too."""

    planned_s: float
    """Device seconds of the plan."""

    launched_s: float
    """Device seconds that its runs so far were expected to take when they were launched."""

    spent_s: float
    """Device seconds of its runs so far."""

    message: str
    """What the stage does; after its end, what came of it."""

    result: StageResult | None
    """None until it ends."""

    selected: list[str]
    """The teacher, the setting of the student, the finalists, or the winner."""


class AutopilotPlanView(Contract):
    """What an autopilot would do with its budget, by the costs that its probes have measured."""

    is_affordable: bool
    """Whether the budget pays for a confirmed result."""

    total_s: float
    """Device seconds of all stages; of the confirmation, with all of its seeds."""

    methods: int
    """How many distillation methods with weights are screened."""

    pairs: int
    """Seeds on which the finalists can be confirmed. Fewer if the test decides earlier."""

    advice: list[str]


class SpendingView(Contract):
    """Seconds of the budget, with all extensions."""

    total_s: float
    """Device seconds: those of all jobs are added up."""

    spent_s: float
    """Without its probes and its delivery, which are no part of the budget."""

    left_s: float
    clock_total_s: float | None
    """None without a budget in hours by the clock."""

    clock_spent_s: float
    """By the clock, without pauses."""

    clock_left_s: float | None


class AutopilotConclusionView(Contract):
    """What an autopilot claims and delivers."""

    result: StageResult | Literal["canceled"]
    claims_gain: bool
    """Whether it states that distillation helps."""

    arm: str | None
    """Delivered: the winning arm, or `student-only`. None if no student was trained."""

    run_id: str | None
    """The run whose best checkpoint is delivered."""

    gains: dict[str, ConfirmedGain]
    """By arm, of all that were confirmed on two seeds or more."""

    message: str


class AutopilotRunView(Contract):
    """A run of an autopilot, by its key."""

    key: str
    id: str
    state: RunState
    best_map: float | None
    """From 0 to 1; None until the first evaluation."""


class AutopilotSummaryView(Contract):
    """An autopilot in a list."""

    id: str
    name: str
    preset: str | None
    project: str
    priority: int
    phase: AutopilotPhase
    desired: AutopilotDesire
    message: str
    budget: AutopilotBudget
    """The first one, without extensions."""

    created_by: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether it is finished; one that ran out of budget may still be extended."""
        return self.phase not in UNFINISHED_PHASES


class AutopilotView(AutopilotSummaryView):
    """An autopilot as it is now; what is None is not known until its probes have ended."""

    spec: AutopilotSpec
    notes: list[str]
    """What its runs are warned of, and which students the probes have excluded."""

    plan: AutopilotPlanView | None
    stages: list[StageView]
    """In their order; empty until the probes have ended."""

    stage: AutopilotStage | None
    """The one that it is in. None before and after the search."""

    spending: SpendingView | None
    conclusion: AutopilotConclusionView | None
    jobs: list[AutopilotRunView]
    """Probes, exports and evaluations; the other runs are in its decisions."""


class AutopilotPage(Contract):
    """Autopilots, newest first. `next_cursor` is None on the last page."""

    items: list[AutopilotSummaryView]
    next_cursor: str | None


class AutopilotQuery(PageQuery):
    """Filters of a list of autopilots."""

    id_prefix: Annotated[str, Field(max_length=64)] | None = None
    """Only autopilots whose id starts with it."""

    phase: AutopilotPhase | None = None
    project: str | None = None


class DecisionView(Contract):
    """An entry of an autopilot's history: a decision of its own, or of a person."""

    position: int
    entry: AutopilotEntry
    run: AutopilotRunView | None
    """The run that it is about. None for other decisions, and for a launch without a run yet."""


class DecisionPage(Contract):
    """Decisions in their order. `next_cursor` is None on the last page."""

    items: list[DecisionView]
    next_cursor: int | None


class DecisionQuery(Contract):
    """Cursor pagination of the decisions of an autopilot."""

    cursor: Annotated[int, Field(ge=-1, lt=2**31)] = -1
    """`next_cursor` of the previous page; -1 for the first page, as positions count from 0."""

    limit: Annotated[int, Field(ge=1, le=200)] = 100
