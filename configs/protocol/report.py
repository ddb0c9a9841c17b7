"""Did it help: a run beside its baseline, with the uncertainty of both; and what a report is of."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from configs.protocol.probe import Costs
from configs.protocol.sweep_log import SweepEntry, TrialResult
from configs.spec.base import Contract, RunId, UtcDatetime
from configs.spec.run import DatasetFiles, RunSpec
from configs.spec.sweep import SweepId, SweepSpec, Values

Verdict = Literal["helps", "hurts", "cannot_tell"]

SeedSpread = Literal["pairs", "noise_floor", "unknown"]
"""What is known of the scatter over seeds: from two or more pairs with different seeds, from a
noise floor of the same student, data and schedule, or nothing. Then there is no verdict."""

MAP_PARTS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
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


class SeedGain(Contract):
    """One pair: a distilled run and its baseline, both with the same seed; mAP from 0 to 1."""

    seed: int
    run: RunId
    baseline: RunId
    run_map: float
    baseline_map: float
    gain: float
    """The run's mAP less its baseline's."""


class Comparison(Contract):
    """A distilled run, or several with different seeds, beside their twins without a teacher.

    A verdict of one pair without a noise floor does not exist: reading an older document that has
    one gives `cannot_tell`, and making one is an error.
    """

    runs: Annotated[tuple[RunId, ...], Field(min_length=1)]
    baselines: Annotated[tuple[RunId, ...], Field(min_length=1)]
    """In the runs' order: each twin has its run's seed."""

    trial: int | None = None
    parts: dict[str, Difference]
    """By name as in `MAP_PARTS`; those without objects of that size are left out."""

    teacher_map: float | None = None
    gap_closed: float | None = None
    """Difference in mAP over the teacher's lead of the baseline; none: no teacher that leads."""

    verdict: Verdict
    seed_spread: SeedSpread
    basis: str
    """What the interval rests on, in words."""

    images: Annotated[int, Field(ge=1)] | None = None
    """Validation images that all runs were measured on; none: an older document."""

    gains: tuple[SeedGain, ...] = ()
    """Each pair by itself, in the runs' order; empty: an older document."""

    @model_validator(mode="before")
    @classmethod
    def _read_older_document(cls, document: Any) -> Any:
        """Documents without `seed_spread` say in their basis alone what they rest on."""
        if not isinstance(document, dict) or "seed_spread" in document:
            return document
        spread = _spread_in_words(document)
        verdict = "cannot_tell" if spread == "unknown" else document.get("verdict")
        return {**document, "seed_spread": spread, "verdict": verdict}

    @model_validator(mode="after")
    def _verdict_rests_on_seeds(self) -> Self:
        if (self.seed_spread == "pairs") != (len(self.runs) > 1):
            raise ValueError(
                f"seed_spread is {self.seed_spread} and the number of pairs {len(self.runs)}"
            )
        if self.seed_spread == "unknown" and self.verdict != "cannot_tell":
            raise ValueError(
                f"verdict {self.verdict} of one pair without a noise floor: it takes the spread "
                "over seeds"
            )
        return self


def _spread_in_words(document: dict[str, Any]) -> SeedSpread:
    runs = document.get("runs")
    if isinstance(runs, list | tuple) and len(runs) > 1:
        return "pairs"
    return "noise_floor" if "noise floor" in str(document.get("basis", "")) else "unknown"


class CurvePoint(Contract):
    """Metrics of one step."""

    step: int
    epoch: float
    values: dict[str, float]


RunRole = Literal["baseline", "distilled"]


class ReportRun(Contract):
    """What a report is told of a run."""

    id: RunId
    name: str
    role: RunRole
    trial: int | None = None
    values: Values
    result: TrialResult | None = None
    folder: str
    """Where its files lie, as every node sees them."""

    spec: RunSpec
    baseline: RunId | None = None
    """Its twin; none: it is one, or has none."""

    seedless_digest: str | None = None
    """Equal for runs that differ in their seed alone, which are compared together; none: a run of
    a trial, which has its trial's, or of old times."""

    best_map: float | None = None
    best_epoch: int | None = None
    teacher: dict[str, float]
    """The teacher's numbers on the same images, by name as in `MAP_PARTS`; empty without one."""

    curve: tuple[CurvePoint, ...]


class ReportInputs(Contract):
    """Everything a report rests on, as the service knows it when the report begins."""

    title: str
    at: UtcDatetime
    dataset: DatasetFiles
    runs: tuple[ReportRun, ...]
    sweep_id: SweepId | None = None
    sweep: SweepSpec | None = None
    entries: tuple[SweepEntry, ...] = ()
    noise: NoiseFloor | None = None
    costs: Costs | None = None
    """What a step takes, as the sweep's probe timed it; none: nobody did."""

    service_url: str | None = None
    mlflow_url: str | None = None


ErrorKind = Literal["classification", "localization", "duplicate", "background", "missed"]
"""After Bolya et al. (TIDE, ECCV 2020): the right place with a wrong class, the right class in a
place not quite right, a second detection of an object, a detection of nothing, an object missed."""


class TeacherStudent(Contract):
    """A number of the teacher and of the student; none where there are no objects of the kind."""

    teacher: float | None
    student: float | None


class MissedObject(Contract):
    """An object that the teacher finds and the student does not (IoU 0.5, the right class)."""

    class_name: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, in pixels of the original image."""

    teacher_score: float


class MissedImage(Contract):
    """An image where the teacher is right and the student is not."""

    file: str
    """Relative to the validation images' folder."""

    objects: Annotated[tuple[MissedObject, ...], Field(min_length=1)]


class Transfer(Contract):
    """Where a student is behind its teacher, on the same images."""

    run: RunId
    by_class: dict[str, TeacherStudent]
    """AP over IoU 0.50 to 0.95."""

    by_size: dict[Literal["s", "m", "l"], TeacherStudent]
    by_iou: dict[str, TeacherStudent]
    """AP at `0.50`, `0.55` to `0.95`."""

    errors: dict[ErrorKind, TeacherStudent]
    """How many of each kind, at IoU 0.5 and scores of 0.3 or more."""

    images: tuple[MissedImage, ...]
    """Those with the most lost objects first."""


class Report(Contract):
    """What programs read of a report; the service takes the comparisons from it."""

    title: str
    conclusion: str = ""
    """The answer in a sentence, as it stands on top of the page."""

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
