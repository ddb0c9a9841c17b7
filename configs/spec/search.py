"""Search of a sweep: parameters of the space, algorithms, schedulers."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from configs.spec.base import Contract

Scalar = bool | int | float | str
"""The value of a parameter."""

RATIO: Literal["ratio"] = "ratio"
"""A derived parameter: the sum of the distillation terms divided by the detector's own losses, as
the probe measures both on a batch. The two weights follow from it and from `BALANCE`."""

BALANCE: Literal["balance"] = "balance"
"""A derived parameter, with `RATIO`: the classification term's share of the distillation terms;
0.5 by default."""

SWEEPABLE_PREFIXES: tuple[str, ...] = ("distillation.", "schedule.", "student.")
"""Prefixes of the fields of a run's spec that a sweep may vary."""

Conditions = Annotated[dict[str, tuple[Scalar, ...]], Field(default_factory=dict)]
"""Values of other parameters, by name, for which this one is active; else it is left out."""


class Uniform(Contract):
    """A uniform distribution between `low` and `high`."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float
    when: Conditions

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        _check_bounds(self.low, self.high)
        return self


class LogUniform(Contract):
    """A log-uniform distribution between `low` and `high`."""

    kind: Literal["loguniform"] = "loguniform"
    low: Annotated[float, Field(gt=0.0)]
    high: float
    when: Conditions

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        _check_bounds(self.low, self.high)
        return self


class Integer(Contract):
    """Integers from `low` to `high`, both included."""

    kind: Literal["integer"] = "integer"
    low: int
    high: int
    log: bool = False
    when: Conditions

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.log and self.low < 1:
            raise ValueError(f"log needs low to be 1 or more, got {self.low}")
        _check_bounds(self.low, self.high)
        return self


class Choice(Contract):
    """A choice between the given values."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[Scalar, ...], Field(min_length=2, max_length=64)]
    when: Conditions

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if len(set(map(str, self.values))) != len(self.values):
            raise ValueError(
                f"values: give each one only once, got {', '.join(map(str, self.values))}"
            )
        return self


Parameter = Annotated[Uniform | LogUniform | Integer | Choice, Field(discriminator="kind")]


class GridSearch(Contract):
    """All combinations. A range gets `points` values, evenly spaced (in log space if it is log)."""

    kind: Literal["grid"] = "grid"
    points: Annotated[int, Field(ge=2, le=64)] = 5


class RandomSearch(Contract):
    """Independent random trials."""

    kind: Literal["random"] = "random"


class Tpe(Contract):
    """Optuna's Tree-structured Parzen Estimator (Bergstra et al., 2011), multi-objective too.

    The first `startup` trials are random. Running trials count as bad ones, so that the trials of
    one pack differ (constant liar).
    """

    kind: Literal["tpe"] = "tpe"
    startup: Annotated[int, Field(ge=1, le=1000)] = 8


class CoordinateSearch(Contract):
    """Coordinate search of BCKD's two weights: anchors, each weight alone, then a 3x3 check.

    The terms act on separate towers of the head, so two one-dimensional searches (`points` values
    each) and a check around the best point cost less than a grid. The space must consist of
    `distillation.cls_weight` and `distillation.loc_weight`.
    """

    kind: Literal["coordinate"] = "coordinate"
    points: Annotated[int, Field(ge=2, le=16)] = 5


Algorithm = Annotated[
    GridSearch | RandomSearch | Tpe | CoordinateSearch, Field(discriminator="kind")
]


class NoScheduler(Contract):
    """Every trial trains to its last epoch."""

    kind: Literal["none"] = "none"


class Asha(Contract):
    """Asynchronous successive halving (Li et al., 2020): the best 1/`factor` pass each rung."""

    kind: Literal["asha"] = "asha"
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    factor: Annotated[int, Field(ge=2, le=10)] = 3


class Hyperband(Contract):
    """ASHA with several brackets, which start halving at different epochs."""

    kind: Literal["hyperband"] = "hyperband"
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    factor: Annotated[int, Field(ge=2, le=10)] = 3
    brackets: Annotated[int, Field(ge=2, le=8)] = 3


class MedianStopping(Contract):
    """Stops a trial whose best value is below the median of the others' means at that epoch."""

    kind: Literal["median"] = "median"
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    min_trials: Annotated[int, Field(ge=1)] = 3


Scheduler = Annotated[NoScheduler | Asha | Hyperband | MedianStopping, Field(discriminator="kind")]


def _discriminate_pack(value: object) -> str:
    return "mode" if isinstance(value, str) else "size"


PackSize = Annotated[int, Field(ge=1, le=64)]

Pack = Annotated[
    Annotated[Literal["auto", "off"], Tag("mode")] | Annotated[PackSize, Tag("size")],
    Discriminator(_discriminate_pack),
]
"""Number of trials that train in one process with one teacher; `auto` for as many as fit."""


def _check_bounds(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"low {low} must be smaller than high {high}")
