"""What the API shows of sweeps. The client speaks these too."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from configs.protocol.probe import Probe
from configs.protocol.sweep_log import TrialResult
from configs.spec.base import Contract
from configs.spec.sweep import SweepSpec, Values
from service.api.schemas.base import LaunchOptions, PageQuery, Priority, RequestModel, RunName
from service.api.schemas.runs import FindingView
from service.domain.states import RunState
from service.domain.sweeps import FINISHED_SWEEP_STATES, DesiredSweepState, SweepState


class BestView(Contract):
    """The best trial so far."""

    trial: int
    values: Values
    objective: float
    """Its best value of the first objective."""


class EstimateView(Contract):
    """What all trials take if each trains to its end, from a few timed steps."""

    hours: float
    """By the clock."""

    gpu_hours: float
    cpu_hours: float
    separate_hours: float
    """By the clock, were each trial trained by itself."""

    saved: float
    """The part of the separate trials' work that packs save."""

    price: float | None
    """With the operator's prices; none: there are none."""


class SweepView(Contract):
    """A sweep as it is now."""

    id: str
    name: str
    preset: str | None
    project: str
    priority: int
    state: SweepState
    desired: DesiredSweepState
    message: str
    warnings: list[str]
    spec: SweepSpec
    """In force: with the budget, space and algorithm of the last extension, if there was one."""

    trials: int
    """That have begun."""

    by_result: dict[str, int]
    """How many ended how; `running`: those that go on."""

    best: BestView | None
    waiting_for: str | None
    driver: int
    consecutive_failures: int
    pack_size: int
    estimate: EstimateView | None
    probe: Probe | None
    probe_run_id: str | None
    report_run_id: str | None
    mlflow_run_id: str | None
    mlflow_url: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in FINISHED_SWEEP_STATES


class SweepPage(Contract):
    """Sweeps, newest first; `next_cursor` asks for those after."""

    items: list[SweepView]
    next_cursor: str | None


class SweepPlanView(Contract):
    """A sweep that was not launched: what it would be, and what stands against it."""

    spec: SweepSpec
    findings: list[FindingView]
    waiting_for: str | None
    trials: int
    """At most."""

    runs: int


class TrialRunView(Contract):
    """A run of a trial."""

    id: str
    seed: int
    state: RunState
    epoch: int | None
    epochs: int | None
    mlflow_run_id: str | None


class TrialView(Contract):
    """One point of a sweep."""

    number: int
    values: Values
    state: Literal["running"] | TrialResult
    runs: list[TrialRunView]
    epoch: int
    """Whole epochs of which the objectives are known."""

    objectives: dict[str, float]
    """The best value of each so far."""

    message: str
    """Why it has no runs; else empty."""


class SweepRequest(LaunchOptions):
    """A sweep to launch: a run to search around, as `RunRequest` says it, and how to search.

    Everything but the run is as in `configs.spec.SweepSpec`; what is left out is as there.
    """

    preset: Annotated[str | None, Field(examples=["digits/bckd"])] = None
    changes: dict[str, JsonValue] = Field(default_factory=dict)
    spec: dict[str, JsonValue] | None = None
    """Of the run: its base."""

    space: Annotated[
        dict[str, JsonValue],
        Field(
            examples=[{"distillation.cls_weight": {"kind": "loguniform", "low": 0.1, "high": 10.0}}]
        ),
    ]
    algorithm: dict[str, JsonValue] | None = None
    scheduler: dict[str, JsonValue] | None = None
    objectives: list[JsonValue] | None = None
    initial_points: list[JsonValue] | None = None
    budget: dict[str, JsonValue] | None = None
    concurrency: JsonValue = None
    repeats: JsonValue = None
    pack: JsonValue = None
    baseline: JsonValue = None
    noise_runs: JsonValue = None
    probe: JsonValue = None
    seed: JsonValue = None
    tags: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.preset is None) == (self.spec is None):
            raise ValueError("give either preset or spec")
        if self.spec is not None and self.changes:
            raise ValueError("changes are for presets; put them into spec itself")
        return self


class ExtendRequest(RequestModel):
    """More for a finished sweep to do."""

    trials: Annotated[int | None, Field(ge=1, le=10_000, strict=True)] = None
    """More of them, beside those that have begun; none: what is left of the old budget."""

    hours: Annotated[float | None, Field(gt=0, le=100_000)] = None
    """From now on; none: without a limit."""

    gpu_hours: Annotated[float | None, Field(gt=0, le=1_000_000)] = None
    space: dict[str, JsonValue] | None = None
    """The whole space with its new bounds."""

    algorithm: dict[str, JsonValue] | None = None


class PromoteRequest(RequestModel):
    """A trial to be trained as a run of its own."""

    trial: Annotated[int | None, Field(ge=0, lt=2**31, strict=True)] = None
    """None: the best so far."""

    changes: Annotated[dict[str, JsonValue], Field(examples=[{"schedule.epochs": 24}])] = Field(
        default_factory=dict
    )
    name: RunName | None = None
    priority: Priority = 0


class SweepQuery(PageQuery):
    """Which sweeps."""

    state: SweepState | None = None
    project: str | None = None
