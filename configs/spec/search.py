"""What a sweep varies, and how it looks for the best: parameters, algorithms, schedulers."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from configs.spec.base import Contract

Scalar = bool | int | float | str
"""A value of a parameter."""

RATIO: Literal["ratio"] = "ratio"
"""The parameter that is no field: the distillation terms' sum over the detector's own losses, as
the probe measures both on a batch; the weights follow from it and from `BALANCE`."""

BALANCE: Literal["balance"] = "balance"
"""Beside `RATIO`: the classification term's share of the distillation terms; 0.5 without it."""

SWEEPABLE_PREFIXES: tuple[str, ...] = ("distillation.", "schedule.", "student.")
"""Fields of a run's spec that a sweep may vary begin so."""

Conditions = Annotated[dict[str, tuple[Scalar, ...]], Field(default_factory=dict)]
"""By another parameter the values with which this one exists; else it is left out."""


class Uniform(Contract):
    """Every value between two is as likely."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float
    when: Conditions

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _refuse_empty(self.low, self.high)
        return self


class LogUniform(Contract):
    """Every order of magnitude between two values is as likely."""

    kind: Literal["loguniform"] = "loguniform"
    low: Annotated[float, Field(gt=0.0)]
    high: float
    when: Conditions

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _refuse_empty(self.low, self.high)
        return self


class Integer(Contract):
    """Whole numbers between two, both included."""

    kind: Literal["integer"] = "integer"
    low: int
    high: int
    log: bool = False
    when: Conditions

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.log and self.low < 1:
            raise ValueError(f"log needs low to be 1 or more, got {self.low}")
        _refuse_empty(self.low, self.high)
        return self


class Choice(Contract):
    """One of some values."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[Scalar, ...], Field(min_length=2, max_length=64)]
    when: Conditions

    @model_validator(mode="after")
    def _values_differ(self) -> Self:
        if len(set(map(str, self.values))) != len(self.values):
            raise ValueError(f"values: each once, got {', '.join(map(str, self.values))}")
        return self


Parameter = Annotated[Uniform | LogUniform | Integer | Choice, Field(discriminator="kind")]


class GridSearch(Contract):
    """Every combination; a range is cut into `points`, evenly, or by magnitude if it is log."""

    kind: Literal["grid"] = "grid"
    points: Annotated[int, Field(ge=2, le=64)] = 5


class RandomSearch(Contract):
    """Every trial is drawn by itself."""

    kind: Literal["random"] = "random"


class Tpe(Contract):
    """Tree-structured Parzen estimator (Bergstra et al., 2011), by Optuna; several objectives too.

    The first `startup` trials are random. Trials that still train count as bad ones, so that those
    of one pack differ.
    """

    kind: Literal["tpe"] = "tpe"
    startup: Annotated[int, Field(ge=1, le=1000)] = 8


class CoordinateSearch(Contract):
    """What the two weights of BCKD need: anchors, each weight by itself, a check around the best.

    The terms act on separate towers of the head, so two one-dimensional sweeps (`points` values
    each) and a 3x3 check cost less than a grid. Needs `distillation.cls_weight` and
    `distillation.loc_weight` in the space, and nothing else.
    """

    kind: Literal["coordinate"] = "coordinate"
    points: Annotated[int, Field(ge=2, le=16)] = 5


Algorithm = Annotated[
    GridSearch | RandomSearch | Tpe | CoordinateSearch, Field(discriminator="kind")
]


class NoScheduler(Contract):
    """Every trial trains to its end."""

    kind: Literal["none"] = "none"


class Asha(Contract):
    """Asynchronous successive halving (Li et al., 2020): at each rung the best 1/`factor` go on."""

    kind: Literal["asha"] = "asha"
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    factor: Annotated[int, Field(ge=2, le=10)] = 3


class Hyperband(Contract):
    """ASHA in several brackets, which begin to halve at different epochs."""

    kind: Literal["hyperband"] = "hyperband"
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    factor: Annotated[int, Field(ge=2, le=10)] = 3
    brackets: Annotated[int, Field(ge=2, le=8)] = 3


class MedianStopping(Contract):
    """A trial ends when its best is below the median of the others' means at the same epoch."""

    kind: Literal["median"] = "median"
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    min_trials: Annotated[int, Field(ge=1)] = 3


Scheduler = Annotated[NoScheduler | Asha | Hyperband | MedianStopping, Field(discriminator="kind")]


def _kind_of_pack(value: object) -> str:
    return "word" if isinstance(value, str) else "size"


PackSize = Annotated[int, Field(ge=1, le=64)]

Pack = Annotated[
    Annotated[Literal["auto", "off"], Tag("word")] | Annotated[PackSize, Tag("size")],
    Discriminator(_kind_of_pack),
]
"""How many trials train side by side with one teacher; `auto`: as many as fit."""


def _refuse_empty(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"low {low} must be smaller than high {high}")
