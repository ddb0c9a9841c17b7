"""What the API shows of sweeps. The client speaks these too."""

from datetime import datetime
from typing import Literal

from configs.spec import Contract, Probe, SweepSpec, TrialResult, Values
from service.api.schemas import FindingView
from service.domain.states import RunState
from service.domain.sweeps import SWEEP_OVER, SweepState, Wants


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
    wants: Wants
    message: str
    warnings: list[str]
    spec: SweepSpec
    """In force: with the budget, space and algorithm of the last extension, if there was one."""

    trials: int
    """That have begun."""

    by_result: dict[str, int]
    """How many ended how; `live`: those that go on."""

    best: BestView | None
    waits_for: str | None
    driver: int
    strikes: int
    pack_size: int
    estimate: EstimateView | None
    probe: Probe | None
    probe_run_id: str | None
    report_run_id: str | None
    mlflow_run_id: str | None
    mlflow_url: str | None
    created_by: str
    created_at: datetime
    changed_at: datetime
    finished_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.state in SWEEP_OVER


class SweepPage(Contract):
    """Sweeps, newest first; `next_cursor` asks for those after."""

    items: list[SweepView]
    next_cursor: str | None


class SweepPlanView(Contract):
    """A sweep that was not launched: what it would be, and what stands against it."""

    spec: SweepSpec
    findings: list[FindingView]
    waits_for: str | None
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
    state: Literal["live"] | TrialResult
    runs: list[TrialRunView]
    epoch: int
    """Whole epochs of which the objectives are known."""

    objectives: dict[str, float]
    """The best value of each so far."""

    message: str
    """Why it has no runs; else empty."""
