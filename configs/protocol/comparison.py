"""Comparisons of runs with their baselines: verdicts, gains, noise floors."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.spec.base import OMIT_IF_NONE, Contract, RunId, TeacherControl

Verdict = Literal["helps", "hurts", "cannot_tell"]

SeedSpread = Literal["pairs", "noise_floor", "unknown"]
"""What is known of the variation over seeds: two or more pairs with different seeds, a noise floor
of the same student, data and schedule, or nothing, which allows no verdict."""

MAP_PARTS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
"""mAP and its parts, as in the metric keys after `val/`. The first one decides the verdict."""


class NoiseFloor(Contract):
    """Variation of mAP between runs that differ in their seed alone."""

    runs: Annotated[int, Field(ge=2)]
    freedom: Annotated[int, Field(ge=1)]
    """Degrees of freedom: number of runs minus number of groups of equal specs."""

    deviation: Annotated[float, Field(ge=0.0)]
    """Standard deviation of one run's mAP over seeds, pooled over the groups."""

    floor: Annotated[float, Field(ge=0.0)]
    """The difference of two runs that noise alone exceeds in 5 % of cases (Student's t)."""


class Difference(Contract):
    """A metric of a run minus that of its baseline; means over seeds."""

    run: float
    baseline: float
    difference: float
    low: float | None = None
    """Lower bound of the 95 % interval of the true difference. None if it is unknown."""

    high: float | None = None
    """Upper bound of that interval."""


class SeedGain(Contract):
    """A distilled run and its baseline with the same seed; mAP from 0 to 1."""

    seed: int
    run: RunId
    baseline: RunId
    run_map: float
    baseline_map: float
    gain: float
    """mAP of the run minus mAP of its baseline."""


class Comparison(Contract):
    """A distilled run, or several with different seeds, against their baselines.

    One pair without a noise floor allows no verdict: a document that states one is invalid.
    """

    runs: Annotated[tuple[RunId, ...], Field(min_length=1)]
    baselines: Annotated[tuple[RunId, ...], Field(min_length=1)]
    """In the order of the runs: each baseline has the seed of its run."""

    trial: int | None = None
    control: Annotated[TeacherControl | None, OMIT_IF_NONE] = None
    """The control that the runs are. None if their teacher teaches them."""

    parts: dict[str, Difference]
    """By name as in `MAP_PARTS`, without sizes of which there are no objects."""

    teacher_map: float | None = None
    gap_closed: float | None = None
    """Difference in mAP divided by the gap between teacher and baseline. None if the teacher is not
    better than the baseline."""

    verdict: Verdict
    seed_spread: SeedSpread
    basis: str
    """What the interval was computed from, as text."""

    images: Annotated[int, Field(ge=1)] | None = None
    """Number of validation images that all runs were evaluated on. None in older documents."""

    gains: tuple[SeedGain, ...] = ()
    """The gain of each pair, in the order of the runs. Empty in older documents."""

    @model_validator(mode="after")
    def _check_seed_spread(self) -> Self:
        if (self.seed_spread == "pairs") != (len(self.runs) > 1):
            raise ValueError(
                f"seed_spread {self.seed_spread} does not fit the number of pairs {len(self.runs)}"
            )
        if self.seed_spread == "unknown" and self.verdict != "cannot_tell":
            raise ValueError(
                f"verdict {self.verdict} of one pair without a noise floor: a verdict needs the "
                "variation over seeds"
            )
        return self


class ControlComparison(Contract):
    """Distilled runs against their controls with the same seeds."""

    kind: TeacherControl
    runs: Annotated[tuple[RunId, ...], Field(min_length=1)]
    controls: Annotated[tuple[RunId, ...], Field(min_length=1)]
    """In the order of the runs."""

    difference: Difference
    """mAP of the runs minus that of the controls: what the teacher's knowledge of the image adds.
    In `baseline` it has the controls' mAP."""

    gain: Difference
    """mAP of the same runs minus that of their baselines."""

    control_gain: Difference
    """mAP of the controls minus that of the same baselines."""

    verdict: Verdict
    """Whether the difference is told apart from 0; `cannot_tell` for one seed."""
