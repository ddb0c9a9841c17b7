"""Did it help: a run beside its baseline, with the uncertainty of both; and what a report is of."""

from typing import Annotated, Literal

from pydantic import Field

from configs.spec.base import Contract, Moment, RunId
from configs.spec.probe import Costs
from configs.spec.run import DatasetFiles, RunSpec
from configs.spec.sweep import SweepEntry, SweepId, SweepSpec, TrialResult, Values

Verdict = Literal["helps", "hurts", "cannot_tell"]

PARTS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
"""mAP and its parts, as metrics name them after `val/`; the first one decides."""


class NoiseFloor(Contract):
    """How much mAP differs between runs that differ in their seed alone."""

    runs: Annotated[int, Field(ge=2)]
    freedom: Annotated[int, Field(ge=1)]
    """Degrees of freedom: runs less groups of equal specs."""

    deviation: Annotated[float, Field(ge=0.0)]
    """Standard deviation of one run's mAP over seeds, pooled over the groups."""

    floor: Annotated[float, Field(ge=0.0)]
    """A difference of two runs that noise alone exceeds in 5 % of cases (Student's t)."""


class Difference(Contract):
    """A number of a run less the same of its baseline; over seeds the mean."""

    run: float
    baseline: float
    difference: float
    low: float | None = None
    """The interval that holds the true difference in 95 % of cases; none: unknown."""

    high: float | None = None


class Comparison(Contract):
    """A distilled run, or one trial's over several seeds, beside its twins without a teacher."""

    runs: Annotated[tuple[RunId, ...], Field(min_length=1)]
    baselines: Annotated[tuple[RunId, ...], Field(min_length=1)]
    """In the runs' order: each twin has its run's seed."""

    trial: int | None = None
    parts: dict[str, Difference]
    """By name as in `PARTS`; those without objects of that size are left out."""

    teacher_map: float | None = None
    lead_closed: float | None = None
    """Difference in mAP over the teacher's lead of the baseline; none: no teacher that leads."""

    verdict: Verdict
    basis: str
    """What the interval rests on, in words."""


class CurvePoint(Contract):
    """Metrics of one step."""

    step: int
    epoch: float
    values: dict[str, float]


Role = Literal["baseline", "distilled"]


class DossierRun(Contract):
    """What a report is told of a run."""

    id: RunId
    name: str
    role: Role
    trial: int | None = None
    values: Values
    result: TrialResult | None = None
    folder: str
    """Where its files lie, as every node sees them."""

    spec: RunSpec
    baseline: RunId | None = None
    """Its twin; none: it is one, or has none."""

    best_map: float | None = None
    best_epoch: int | None = None
    teacher: dict[str, float]
    """The teacher's numbers on the same images, by name as in `PARTS`; empty without one."""

    curve: tuple[CurvePoint, ...]


class Dossier(Contract):
    """Everything a report rests on, as the service knows it when the report begins."""

    title: str
    at: Moment
    dataset: DatasetFiles
    runs: tuple[DossierRun, ...]
    sweep_id: SweepId | None = None
    sweep: SweepSpec | None = None
    entries: tuple[SweepEntry, ...] = ()
    noise: NoiseFloor | None = None
    costs: Costs | None = None
    """What a step takes, as the sweep's probe timed it; none: nobody did."""

    service_url: str | None = None
    mlflow_url: str | None = None


ErrorKind = Literal["classification", "localisation", "duplicate", "background", "missed"]
"""After Bolya et al. (TIDE, ECCV 2020): the right place with a wrong class, the right class in a
place not quite right, a second detection of an object, a detection of nothing, an object missed."""


class Pair(Contract):
    """A number of the teacher and of the student; none where there are no objects of the kind."""

    teacher: float | None
    student: float | None


class LostObject(Contract):
    """An object that the teacher finds and the student does not (IoU 0.5, the right class)."""

    class_name: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in pixels of the original image."""

    teacher_score: float


class LostImage(Contract):
    """An image where the teacher is right and the student is not."""

    file: str
    """Relative to the validation images' folder."""

    lost: Annotated[tuple[LostObject, ...], Field(min_length=1)]


class Transfer(Contract):
    """Where a student is behind its teacher, on the same images."""

    run: RunId
    by_class: dict[str, Pair]
    """AP over IoU 0.50 to 0.95."""

    by_size: dict[Literal["s", "m", "l"], Pair]
    by_iou: dict[str, Pair]
    """AP at `0.50`, `0.55` to `0.95`."""

    errors: dict[ErrorKind, Pair]
    """How many of each kind, at IoU 0.5 and scores of 0.3 or more."""

    images: tuple[LostImage, ...]
    """Those with the most lost objects first."""


class Report(Contract):
    """What programs read of a report; the service takes the comparisons from it."""

    title: str
    comparisons: tuple[Comparison, ...]
    noise: NoiseFloor | None
    best_trial: int | None = None
    tied_with_best: tuple[int, ...] = ()
    """Trials whose difference from the best is within the noise floor."""

    importance: dict[str, float]
    """Of each parameter for the objective, as shares of 1; empty where there are too few trials."""

    epochs_trained: int = 0
    epochs_saved: int = 0
    """Of trials that the scheduler stopped."""

    transfer: Transfer | None = None
    """Of the best distilled run; none without a teacher's detections."""
