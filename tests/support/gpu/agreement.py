"""Differences of a device's losses and gradients from the CPU's in fp32, and their limits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.spec.compute import Precision


@dataclass(frozen=True)
class Tolerance:
    """The largest accepted differences from the CPU in fp32, and their cause."""

    loss: float
    """Of each loss, relative."""

    direction: float
    """Of the gradient of all parameters: 1 - cosine."""

    norm: float
    """Of the length of that gradient, relative."""

    reason: str


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(5e-5, 1e-6, 2e-4, "23 bits of mantissa; sums in another order"),
    "tf32": Tolerance(6e-3, 2e-2, 5e-2, "10 bits of mantissa inside convolutions and products"),
    "fp16": Tolerance(1.5e-2, 2e-2, 8e-2, "10 bits of mantissa of all features and outputs"),
    "bf16": Tolerance(2e-1, 5e-2, 1e-1, "7 bits of mantissa of all features and outputs"),
}
"""The largest differences measured on a CPU, over the heads of test_02_heads.py, are below two
fifths of these: weights changed by 1e-7 (fp32) 3e-6, 4e-11, 2e-6; mantissas of the operands of
convolutions and products rounded to 10 bits (tf32) 2.3e-3, 4.3e-3, 1.4e-2; autocast to fp16
3.3e-3, 4.7e-3, 1.6e-2 and to bf16 7.2e-2 (of a small loss), 1.1e-2, 2.2e-2. In fp32 they are too
small for tf32, whose smallest differences were 9e-5, 5e-6 and 3e-4."""


@dataclass(frozen=True)
class StepResult:
    """Losses and gradients of one forward and backward pass, copied to the CPU."""

    losses: Mapping[str, float]
    gradients: Mapping[str, Tensor]
    """Of each parameter that has one, float64."""

    @property
    def gradient(self) -> Tensor:
        """Of all parameters, as one vector."""
        return torch.cat([self.gradients[name].flatten() for name in sorted(self.gradients)])


@dataclass(frozen=True)
class StepDifference:
    """Differences of a step from the reference, as in `Tolerance`."""

    loss: float
    direction: float
    norm: float
    worst_loss: str
    """The name of the loss that differs most."""


def compare_steps(result: StepResult, reference: StepResult) -> StepDifference:
    """Measure the differences of a step from the reference.

    Raises `AssertionError` if they have other losses or parameters, or if a value is not finite.
    """
    assert result.losses.keys() == reference.losses.keys()
    assert result.gradients.keys() == reference.gradients.keys()
    by_loss = {
        name: abs(value - reference.losses[name]) / max(abs(reference.losses[name]), 1e-6)
        for name, value in result.losses.items()
    }
    gradient, expected = result.gradient, reference.gradient
    assert all(map(math.isfinite, result.losses.values())), dict(result.losses)
    assert bool(torch.isfinite(gradient).all()), "a gradient is not finite"
    norm, expected_norm = float(gradient.norm()), float(expected.norm())
    assert expected_norm > 0, "the reference has no gradient"
    cosine = float(gradient @ expected) / (max(norm, 1e-30) * expected_norm)
    worst = max(by_loss, key=lambda name: by_loss[name])
    return StepDifference(by_loss[worst], 1 - cosine, abs(norm / expected_norm - 1), worst)


def assert_within(difference: StepDifference, tolerance: Tolerance) -> None:
    assert difference.loss <= tolerance.loss, f"{difference.worst_loss}: {difference}"
    assert difference.direction <= tolerance.direction, str(difference)
    assert difference.norm <= tolerance.norm, str(difference)
