"""A step with a larger error than rounding does not agree with the reference."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from configs.spec.compute import Precision
from tests.support.gpu.agreement import TOLERANCES, StepResult, assert_within, compare_steps

Change = Callable[[StepResult, float], StepResult]


@pytest.fixture
def reference() -> StepResult:
    draw = torch.Generator().manual_seed(0)
    gradients = {
        name: torch.randn(50, generator=draw, dtype=torch.float64) for name in ("weight", "bias")
    }
    return StepResult({"loss_cls": 2.0, "loss_bbox": 0.5}, gradients)


def change_loss(step: StepResult, size: float) -> StepResult:
    losses = dict(step.losses) | {"loss_bbox": step.losses["loss_bbox"] * (1 + size)}
    return dataclasses.replace(step, losses=losses)


def lengthen_gradient(step: StepResult, size: float) -> StepResult:
    gradients = {name: value * (1 + size) for name, value in step.gradients.items()}
    return dataclasses.replace(step, gradients=gradients)


def rotate_gradient(step: StepResult, size: float) -> StepResult:
    """Rotate it by the angle whose cosine is 1 - size."""
    gradient = step.gradient
    other = torch.randn(len(gradient), generator=torch.Generator().manual_seed(1)).double()
    other -= gradient * (other @ gradient) / (gradient @ gradient)
    cosine = 1 - size
    sine = (1 - cosine**2) ** 0.5
    turned = cosine * gradient + sine * other * gradient.norm() / other.norm()
    bias, weight = turned.split([50, 50])
    return dataclasses.replace(step, gradients={"bias": bias, "weight": weight})


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    ("change", "tolerance"),
    [(change_loss, "loss"), (lengthen_gradient, "norm"), (rotate_gradient, "direction")],
)
def test_a_difference_is_accepted_up_to_its_tolerance(
    reference: StepResult, precision: Precision, change: Change, tolerance: str
) -> None:
    limit = getattr(TOLERANCES[precision], tolerance)

    accepted = compare_steps(change(reference, 0.9 * limit), reference)
    rejected = compare_steps(change(reference, 1.1 * limit), reference)

    assert getattr(accepted, tolerance) == pytest.approx(0.9 * limit, rel=1e-3)
    assert_within(accepted, TOLERANCES[precision])
    with pytest.raises(AssertionError):
        assert_within(rejected, TOLERANCES[precision])


def test_a_step_with_other_losses_or_parameters_agrees_with_nothing(reference: StepResult) -> None:
    fewer_losses = dataclasses.replace(reference, losses={"loss_cls": 2.0})
    fewer_gradients = dataclasses.replace(
        reference, gradients={"weight": reference.gradients["weight"]}
    )

    for step in (fewer_losses, fewer_gradients):
        with pytest.raises(AssertionError):
            compare_steps(step, reference)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_agrees_with_nothing(reference: StepResult, value: float) -> None:
    broken_loss = dataclasses.replace(
        reference, losses=dict(reference.losses) | {"loss_cls": value}
    )
    gradients = {name: tensor.clone() for name, tensor in reference.gradients.items()}
    gradients["bias"][3] = value

    for step in (broken_loss, dataclasses.replace(reference, gradients=gradients)):
        with pytest.raises(AssertionError):
            compare_steps(step, reference)
