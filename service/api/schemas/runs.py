"""Requests and responses of runs and jobs, with their specs."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from configs.protocol.comparison import NoiseFloor
from configs.spec.base import Contract, TeacherControl
from configs.spec.jobs import EvaluationSpec, ExportSpec, JobSpec
from service.api.schemas.base import LaunchOptions, Priority, RequestModel, SpecSource
from service.api.schemas.run_details import RunDetails
from service.domain.states import RunState
from service.domain.vocabulary import (
    BaselineMode,
    ReportFormat,
)


class RunView(RunDetails):
    """A run as it is now."""

    spec: JobSpec


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


class PlannedControlView(Contract):
    """A control that a distilled run would be compared with."""

    control: TeacherControl
    run_id: str | None
    """An existing run. None if another one, as long as the run itself, would be queued with it."""

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
    controls: tuple[PlannedControlView, ...] = ()
    noise: NoiseFloor | None
    """Variation between runs that differ in their seed alone. None if it is not known yet."""


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


def _check_unique(controls: tuple[TeacherControl, ...]) -> tuple[TeacherControl, ...]:
    if len(set(controls)) < len(controls):
        raise ValueError("each control can be given once")
    return controls


Controls = Annotated[
    tuple[TeacherControl, ...],
    AfterValidator(_check_unique),
    # Idempotency keys of versions without this field stay valid.
    Field(exclude_if=lambda controls: not controls),
]


class PriorityRequest(RequestModel):
    """A new priority of a run."""

    priority: Priority


class RunRequest(SpecSource):
    """A run to launch: a preset with changes by dotted field, or a complete spec."""

    baseline: BaselineMode = "auto"
    """`auto` compares a distilled run with its baseline, and queues that one if it does not exist
    yet. `off`: no comparison."""

    controls: Controls = ()
    """The same run with a teacher that cannot help: `random_teacher` has the teacher's architecture
    and untrained weights, `shuffled_teacher` its outputs of another image of the batch. The report
    then says how much of the gain needs what the teacher knows. Refused without a baseline."""

    pack: PairPack = False
    """Whether the run and its new baseline train together in one process. They then start together
    and use the resources of one run; if the baseline exists already, the run trains by itself.
    Refused without a baseline, and with several processes."""


class RepeatRequest(RequestModel):
    """The number of seeds to train a distilled run and its baseline with."""

    seeds: Annotated[int, Field(ge=2, le=32, strict=True, examples=[3])] = 3
    """In total: existing pairs count, also those that still train."""

    controls: Controls = ()
    """Controls that each pair gets, besides those that the run has already."""

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
