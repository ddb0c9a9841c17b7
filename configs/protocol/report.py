"""The inputs and results of reports."""

from typing import Annotated, Literal

from pydantic import Field

from configs.protocol.comparison import Comparison, ControlComparison, NoiseFloor
from configs.protocol.copied_errors import CopiedErrors
from configs.protocol.probe import Costs
from configs.protocol.sweep_log import SweepEntry, TrialResult
from configs.spec.base import Contract, RunId, UtcDatetime
from configs.spec.references import DatasetFiles
from configs.spec.run import RunSpec
from configs.spec.sweep import SweepId, SweepSpec, Values


class CurvePoint(Contract):
    """The metrics of a run at one step."""

    step: int
    epoch: float
    values: dict[str, float]


RunRole = Literal["baseline", "distilled", "control"]


class RunExecution(Contract):
    """How long a run trained, how fast and on what hardware."""

    state: str | None = None
    """State of the run, as the service names it. None in older documents."""

    started_at: UtcDatetime | None = None
    finished_at: UtcDatetime | None = None
    attempts: Annotated[int, Field(ge=0)] = 0
    steps: int | None = None
    """Optimizer steps of the whole training. None until the worker reports its progress."""

    device: str | None = None
    """Device of the last attempt, as `cpu` or `cuda:0`."""

    processes: Annotated[int, Field(ge=1)] = 1
    cpus_per_process: Annotated[int, Field(ge=1)] = 1
    pack_size: Annotated[int, Field(ge=1)] = 1
    """Number of runs that trained in the same process, itself included."""

    images_per_s: float | None = None
    """Median training speed. None before the first measurement."""

    inference_images_per_s: float | None = None
    """Speed of the student in its last evaluation, in images per second of one process."""


class ReportRun(Contract):
    """A run in the inputs of a report."""

    id: RunId
    name: str
    role: RunRole
    trial: int | None = None
    values: Values
    result: TrialResult | None = None
    folder: str
    """The run's folder, on storage that all nodes share."""

    spec: RunSpec
    baseline: RunId | None = None
    """None for baselines, and for runs without one."""

    seedless_digest: str | None = None
    """Equal for runs that differ in their seed alone, which are compared together. None for runs of
    trials, which are grouped by trial."""

    best_map: float | None = None
    best_epoch: int | None = None
    teacher: dict[str, float]
    """The teacher's mAP on the same images, by name as in `MAP_PARTS`. Empty without a teacher."""

    curve: tuple[CurvePoint, ...]
    """One point for each evaluation."""

    losses: tuple[CurvePoint, ...] = ()
    """Training losses by metric key, averaged over equal parts of the training. Empty where they
    are not collected, and in older documents."""

    weights: tuple[CurvePoint, ...] = ()
    """Weights that move and the shares that they follow, by metric key, averaged and collected as
    the losses are. Empty where all weights are numbers."""

    execution: RunExecution = RunExecution()
    mlflow_url: str | None = None
    """MLflow's page of the run. None if it is not tracked."""


class ReportInputs(Contract):
    """All inputs of a report, as of the start of its first attempt."""

    title: str
    at: UtcDatetime
    dataset: DatasetFiles
    runs: tuple[ReportRun, ...]
    preset: str | None = None
    """The preset that the run or sweep was launched from. None for a complete spec."""

    sweep_id: SweepId | None = None
    sweep: SweepSpec | None = None
    entries: tuple[SweepEntry, ...] = ()
    noise: NoiseFloor | None = None
    costs: Costs | None = None
    """The costs of a step as measured by the sweep's probe. None without a probe."""

    service_url: str | None = None
    mlflow_url: str | None = None
    """MLflow's page of the runs."""


ErrorKind = Literal["classification", "localization", "duplicate", "background", "missed"]
"""After Bolya et al. (TIDE, ECCV 2020): a wrong class in the right place, the right class with an
inaccurate box, a second detection of an object, a detection of background, a missed object."""


class TeacherStudent(Contract):
    """A metric of the teacher and of the student. None where there are no such objects."""

    teacher: float | None
    student: float | None


class MissedObject(Contract):
    """An object that the teacher detects and the student does not (IoU 0.5, correct class)."""

    class_name: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in pixels of the original image."""

    teacher_score: float


class MissedImage(Contract):
    """An image with objects that the student misses and the teacher detects."""

    file: str
    """Path relative to the validation images' folder."""

    objects: Annotated[tuple[MissedObject, ...], Field(min_length=1)]


class Transfer(Contract):
    """The gap between a student and its teacher on the same images, in detail."""

    run: RunId
    by_class: dict[str, TeacherStudent]
    """AP over IoU 0.50 to 0.95, by class."""

    by_size: dict[Literal["s", "m", "l"], TeacherStudent]
    by_iou: dict[str, TeacherStudent]
    """AP at `0.50`, `0.55` to `0.95`."""

    errors: dict[ErrorKind, TeacherStudent]
    """Number of errors of each kind, at IoU 0.5 and scores of 0.3 or more."""

    images: tuple[MissedImage, ...]
    """Images with the most missed objects first."""


class Report(Contract):
    """The machine-readable report; the service stores its comparisons."""

    title: str
    conclusion: str = ""
    """The headline of the page: the conclusion in one sentence."""

    comparisons: tuple[Comparison, ...]
    noise: NoiseFloor | None
    best_trial: int | None = None
    tied_with_best: tuple[int, ...] = ()
    """Trials whose difference from the best is within the noise floor."""

    importance: dict[str, float]
    """Importance of each parameter for the objective; they sum to 1. Empty with too few trials."""

    epochs_trained: int = 0
    epochs_saved: int = 0
    """Epochs not trained because the scheduler stopped trials."""

    transfer: Transfer | None = None
    """Of the best distilled run. None without detections of the teacher."""

    controls: tuple[ControlComparison, ...] = ()
    """Of the runs of the main comparison, those with controls of the same seeds."""

    copied_errors: CopiedErrors | None = None
    """Of the pairs of the main comparison. None without detections of their teacher, and in older
    documents."""
