"""Requests and responses of sweeps and their trials."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from configs.protocol.probe import Probe
from configs.protocol.sweep_log import TrialResult
from configs.spec.base import Contract
from configs.spec.sweep import MAX_TRIALS, SweepSpec, Values
from service.api.schemas.base import PageQuery, Priority, RequestModel, RunName, SpecSource
from service.api.schemas.runs import FindingView, RunEstimateView
from service.domain.states import RunState
from service.domain.sweeps import FINISHED_SWEEP_STATES, DesiredSweepState, SweepState


class BestView(Contract):
    """The best trial so far."""

    trial: int
    values: Values
    objective: float
    """The trial's best value of the first objective."""


class EstimateView(Contract):
    """Estimated cost of all trials if each trains to its end, from a few timed steps."""

    hours: float
    """Wall-clock time of the sweep."""

    gpu_hours: float
    cpu_hours: float
    separate_hours: float
    """Wall-clock time if each trial trained by itself, without packs."""

    saved: float
    """Fraction of the separate trials' work that packs save."""

    price: float | None
    """In the currency of the configured prices. None if no prices are configured."""


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
    """The active spec: with budget, space and algorithm of the last extension, if there was one."""

    trials: int
    """Number of trials that have started."""

    by_result: dict[str, int]
    """Number of trials by result; `running` for those without one."""

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
        """Whether the sweep is finished; it may still be extended."""
        return self.state in FINISHED_SWEEP_STATES


class SweepPage(Contract):
    """Sweeps, newest first. `next_cursor` is None on the last page."""

    items: list[SweepView]
    next_cursor: str | None


class SweepPlanView(Contract):
    """The result of a sweep's dry run: the resolved spec and its findings."""

    spec: SweepSpec
    findings: list[FindingView]
    waiting_for: str | None
    trials: int
    """Maximum number of trials."""

    runs: int
    run_estimate: RunEstimateView | None
    """The length of one run of the base spec. None if the dataset is not registered."""


class TrialRunView(Contract):
    """One run of a trial; trials with repeats have several."""

    id: str
    seed: int
    state: RunState
    epoch: int | None
    epochs: int | None
    mlflow_run_id: str | None


class TrialView(Contract):
    """One trial of a sweep: a point in its search space."""

    number: int
    values: Values
    state: Literal["running"] | TrialResult
    runs: list[TrialRunView]
    epoch: int
    """Number of whole epochs at the last evaluation; 0 before the first."""

    objectives: dict[str, float]
    """The best value of each objective so far."""

    message: str
    """Why the trial has no runs; else empty."""


class TrialPage(Contract):
    """Trials by number. `next_cursor` is None on the last page."""

    items: list[TrialView]
    next_cursor: int | None


class TrialQuery(Contract):
    """Cursor pagination of the trials of a sweep."""

    cursor: Annotated[int, Field(ge=-1, lt=2**31)] = -1
    """`next_cursor` of the previous page; -1 for the first page, as trials count from 0."""

    limit: Annotated[int, Field(ge=1, le=200)] = 100


class SweepRequest(SpecSource):
    """A sweep to launch: the base run as in `RunRequest`, and how to search around it.

    All other fields are those of `configs.spec.sweep.SweepSpec`, with its defaults.
    """

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


class ExtendRequest(RequestModel):
    """An extension of a finished sweep."""

    trials: Annotated[int | None, Field(ge=1, le=MAX_TRIALS, strict=True)] = None
    """Further trials. None to use the remaining trials of the old budget."""

    hours: Annotated[float | None, Field(gt=0, le=100_000)] = None
    """Hours from now on. None for no limit."""

    gpu_hours: Annotated[float | None, Field(gt=0, le=1_000_000)] = None
    space: dict[str, JsonValue] | None = None
    """The complete search space with its new bounds. None to keep the old one."""

    algorithm: dict[str, JsonValue] | None = None


class PromoteRequest(RequestModel):
    """A trial to train as a run of its own."""

    trial: Annotated[int | None, Field(ge=0, lt=2**31, strict=True)] = None
    """None for the best trial so far."""

    changes: Annotated[dict[str, JsonValue], Field(examples=[{"schedule.epochs": 24}])] = Field(
        default_factory=dict
    )
    name: RunName | None = None
    priority: Priority = 0


class SweepQuery(PageQuery):
    """Filters of a list of sweeps."""

    id_prefix: Annotated[str, Field(max_length=64)] | None = None
    """Only sweeps whose id starts with it."""

    state: SweepState | None = None
    project: str | None = None
