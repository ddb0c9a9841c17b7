"""Weights of distillation terms: a number, a schedule of epochs, or a share of the gradient."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from configs.spec.base import Contract

Number = Annotated[float, Field(ge=0.0, le=1000.0)]
PositiveNumber = Annotated[float, Field(gt=0.0, le=1000.0)]
Epoch = Annotated[int, Field(ge=1, le=1000)]

_DEFAULT_RANGE = 100.0
"""Without bounds, the largest factor between a weight that follows a share and its first value."""


class WeightSchedule(Contract):
    """A weight that changes with the epochs; constant where neither warm-up nor decay acts."""

    value: PositiveNumber
    """The full weight. In a method, its plain default if it is left out."""

    warmup_epochs: Annotated[float, Field(gt=0.0, le=1000.0)] | None = None
    """The weight rises from 0 to `value` in the first so many epochs. None for no warm-up."""

    decay_from_epoch: Epoch | None = None
    """After so many epochs the weight falls, until `stop_epoch` or the end of the training, from
    `value` to `decay_to`. None for no decay."""

    decay_to: Number = 0.0
    shape: Literal["linear", "cosine"] = "linear"
    """The curve of warm-up and decay: a straight line, or half a cosine."""

    stop_epoch: Epoch | None = None
    """After so many epochs the weight is 0, and its term is not computed. None for never."""

    @model_validator(mode="after")
    def _check_has_effect(self) -> Self:
        if (self.warmup_epochs, self.decay_from_epoch, self.stop_epoch) == (None, None, None):
            raise ValueError(
                "without warmup_epochs, decay_from_epoch or stop_epoch the weight is constant; "
                f"write {self.value:g}, or give a share"
            )
        if self.shape != "linear" and self.warmup_epochs is None and self.decay_from_epoch is None:
            raise ValueError("shape has no effect without warmup_epochs or decay_from_epoch")
        if self.decay_from_epoch is None and self.decay_to:
            raise ValueError("decay_to has no effect without decay_from_epoch")
        if self.decay_to >= self.value:
            raise ValueError(f"decay_to {self.decay_to:g} must be below value {self.value:g}")
        return self

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        times = [
            (name, epoch)
            for name in ("warmup_epochs", "decay_from_epoch", "stop_epoch")
            if (epoch := getattr(self, name)) is not None
        ]
        for (earlier, first), (later, second) in itertools.pairwise(times):
            is_ordered = first < second or (earlier == "warmup_epochs" and first == second)
            if not is_ordered:
                raise ValueError(f"{earlier} {first:g} must be before {later} {second:g}")
        return self


class WeightShare(Contract):
    """A weight that a slow controller moves until its term has a share of the gradient.

    The share is that of `tandem loss-shares`: the norm of the term's gradient over the sum of the
    norms of all terms, with respect to the outputs of the student's head (of its pyramid, if a term
    acts on features).
    """

    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    """The share to hold, a fraction of the gradient norms of all terms."""

    value: PositiveNumber
    """The weight at the first step. In a method, its plain default if it is left out."""

    min: PositiveNumber | None = None
    """The weight never falls below. None for a hundredth of `value`."""

    max: PositiveNumber | None = None
    """The weight never rises above. None for a hundred times `value`."""

    every_steps: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Steps between two measurements, each of which moves the weight once."""

    rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """The part of the distance to the share (in log-odds) by which a measurement moves the weight
    (in its logarithm)."""

    stop_epoch: Epoch | None = None
    """After so many epochs the weight is 0, and its term is not computed. None for never."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest weight."""
        lower = self.value / _DEFAULT_RANGE if self.min is None else self.min
        upper = self.value * _DEFAULT_RANGE if self.max is None else self.max
        return lower, upper

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        lower, upper = self.bounds
        if lower >= upper:
            raise ValueError(f"min {lower:g} must be below max {upper:g}")
        if not lower <= self.value <= upper:
            raise ValueError(f"value {self.value:g} must be from min {lower:g} to max {upper:g}")
        return self


MovingWeight = WeightSchedule | WeightShare
"""A weight that is not the same at every step."""


def _discriminate_weight(value: object) -> str:
    fields = value if isinstance(value, dict) else getattr(type(value), "model_fields", None)
    if fields is None:
        return "number"
    return "by_share" if "share" in fields else "by_schedule"


if TYPE_CHECKING:
    Weight = float
    """What computes a loss gets specs in which every weight is the number of a step."""
    PositiveWeight = float
else:
    _Schedule = Annotated[WeightSchedule, Tag("by_schedule")]
    _Share = Annotated[WeightShare, Tag("by_share")]
    _BY_FIELDS = Discriminator(_discriminate_weight)

    Weight = Annotated[Annotated[Number, Tag("number")] | _Schedule | _Share, _BY_FIELDS]
    """Weight of a term of the loss; 0 turns it off and costs nothing."""

    PositiveWeight = Annotated[
        Annotated[PositiveNumber, Tag("number")] | _Schedule | _Share, _BY_FIELDS
    ]


def is_weight_type(annotation: Any) -> bool:
    """Whether values of a field of this type may move: `Weight`, `PositiveWeight` and the like."""
    options = [get_args(option) for option in get_args(annotation)]
    return any(option and option[0] is WeightShare for option in options)


def is_weight_field(name: str) -> bool:
    """Whether a weight that moves has a field of this name."""
    return name in WeightSchedule.model_fields or name in WeightShare.model_fields


def check_weight_epochs(weight: MovingWeight, *, epochs: int) -> Iterator[str]:
    """Yield why a weight of a training of `epochs` epochs has a setting without effect."""
    for name in ("warmup_epochs", "decay_from_epoch", "stop_epoch"):
        epoch = getattr(weight, name, None)
        is_late = epoch is not None and (
            epoch > epochs if name == "warmup_epochs" else epoch >= epochs
        )
        if is_late:
            yield f"{name} is {epoch:g}, but schedule.epochs is {epochs}; give an earlier epoch"
