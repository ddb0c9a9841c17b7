"""The weights of a run's distillation terms at each step."""

import math
from collections.abc import Mapping

from configs.spec.active_methods import moving_weights, terms_by_weight
from configs.spec.distillation import MethodSpec
from configs.spec.weights import MovingWeight, WeightSchedule, WeightShare

_MAX_ERROR = math.log(4.0)
"""Log-odds. A share that is further away moves the weight no faster: one batch with hardly any
positives must not move it far."""


class MovingWeights:
    """The weights of a run that are schedules or shares.

    A schedule follows from the step alone. A share follows from the measured gradients, so `values`
    is part of the state of the training.
    """

    def __init__(
        self, methods: Mapping[str, MethodSpec], *, epochs: int, steps_per_epoch: int
    ) -> None:
        self._weights = moving_weights(methods)
        self._terms = terms_by_weight(methods)
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self.values = {field: weight.value for field, weight in self.shares.items()}
        """The present weights of the shares, by their dotted field in a spec."""

    @property
    def terms(self) -> dict[str, str]:
        """The loss term of each weight that moves, without `loss_`, by its field."""
        return {field: self._terms[field] for field in self._weights}

    @property
    def shares(self) -> dict[str, WeightShare]:
        """The weights that follow a share, by field."""
        return {f: weight for f, weight in self._weights.items() if isinstance(weight, WeightShare)}

    def at(self, step: int) -> dict[str, float]:
        """The weight of each field at a step, counted from 0 over all epochs."""
        return {field: self._weight_at(field, step) for field in self._weights}

    def due_shares(self, step: int) -> list[str]:
        """Fields of the shares that are measured at a step."""
        return [
            field
            for field, share in self.shares.items()
            if (step + 1) % share.every_steps == 0 and not self._is_over(share, step)
        ]

    def find_unmeasured_shares(self) -> list[str]:
        """Fields of the shares whose terms end before their first measurement."""
        return [
            field
            for field, share in self.shares.items()
            if share.every_steps > (share.stop_epoch or self._epochs) * self._steps_per_epoch
        ]

    def move(self, norms: Mapping[str, float], *, step: int) -> dict[str, float]:
        """Move the weights that are due by the gradient norm of each loss term.

        Returns the measured shares by field, without those that no gradient defines.
        """
        total = sum(norms.values())
        measured: dict[str, float] = {}
        for field in self.due_shares(step):
            norm = norms.get(f"loss_{self._terms[field]}", 0.0)
            # Not for NaN, infinity, or a batch without a gradient of this or of all other terms.
            if 0.0 < norm < total < math.inf:
                measured[field] = norm / total
        for field, share in measured.items():
            self.values[field] = move_weight(self.values[field], share, self.shares[field])
        return measured

    def is_at_bound(self, field: str) -> bool:
        """Whether the weight of a share has its smallest or largest value."""
        return self.values[field] in self.shares[field].bounds

    def _weight_at(self, field: str, step: int) -> float:
        weight = self._weights[field]
        if self._is_over(weight, step):
            return 0.0
        if isinstance(weight, WeightShare):
            return self.values[field]
        return scheduled_weight(
            weight, step=step, epochs=self._epochs, steps_per_epoch=self._steps_per_epoch
        )

    def _is_over(self, weight: MovingWeight, step: int) -> bool:
        epoch = weight.stop_epoch
        return epoch is not None and step >= epoch * self._steps_per_epoch


def full_weights(methods: Mapping[str, MethodSpec]) -> dict[str, float]:
    """The `value` of each weight that moves, by field: what a run's steps cost at most."""
    return {field: weight.value for field, weight in moving_weights(methods).items()}


def scheduled_weight(
    weight: WeightSchedule, *, step: int, epochs: int, steps_per_epoch: int
) -> float:
    """The weight of a schedule at a step before its end; steps count from 0 over all epochs.

    The first step of a warm-up has a weight above 0, and the last one `value`. The first step of a
    decay has `value`; the step after the last one would have `decay_to`.
    """
    if weight.warmup_epochs is not None:
        warmup_steps = weight.warmup_epochs * steps_per_epoch
        if step < warmup_steps:
            return weight.value * _curve(min((step + 1) / warmup_steps, 1.0), weight.shape)
    if weight.decay_from_epoch is None:
        return weight.value
    first = weight.decay_from_epoch * steps_per_epoch
    end = (weight.stop_epoch or epochs) * steps_per_epoch
    progress = min(max((step - first) / (end - first), 0.0), 1.0)
    return weight.value + (weight.decay_to - weight.value) * _curve(progress, weight.shape)


def _curve(progress: float, shape: str) -> float:
    """From 0 to 1, along a straight line or half a cosine."""
    return progress if shape == "linear" else 0.5 - 0.5 * math.cos(math.pi * progress)


def move_weight(value: float, measured: float, share: WeightShare) -> float:
    """The next weight of a term, from its measured share (above 0 and below 1).

    Were the gradients of all terms to stay as they are, a weight multiplied by exp(`error`) would
    have the share exactly: the norm of the term's gradient is proportional to its weight.
    """
    error = _log_odds(share.share) - _log_odds(measured)
    lower, upper = share.bounds
    moved = value * math.exp(share.rate * min(max(error, -_MAX_ERROR), _MAX_ERROR))
    return min(max(moved, lower), upper)


def _log_odds(share: float) -> float:
    return math.log(share / (1.0 - share))
