"""Gradient norms of a step's loss terms, with respect to head outputs or feature maps."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from workers.distillation.gradient_norms import GradientNormMeter

LEVELS = (4, 2)


class SmallHead:
    """Features of two levels, outputs computed from them by one weight, and losses on both."""

    def __init__(self, images: slice = slice(None)) -> None:
        draw = torch.Generator().manual_seed(0)
        self.weight = torch.randn(3, 2, 1, 1, generator=draw).requires_grad_()
        maps = [torch.randn(4, 2, side, side, generator=draw) for side in LEVELS]
        self.features = tuple(level[images].requires_grad_() for level in maps)
        self.outputs = (
            [torch.nn.functional.conv2d(level, self.weight) for level in self.features],
            [level.exp() for level in self.features],
        )

    def make_losses(self, *, on_features: bool) -> dict[str, Any]:
        scores, edges = self.outputs
        losses: dict[str, Any] = {
            "loss_cls": [level.square().sum() for level in scores],
            "loss_distill_loc": sum(level.sin().sum() for level in edges),
            "loss_distill_cls": [level.sum() * 0.0 for level in scores],
            "num_pos": torch.tensor(3.0),
        }
        if on_features:
            losses["loss_pkd"] = [level.abs().sum() for level in self.features]
        return losses


def measure(meter: GradientNormMeter, head: SmallHead, *, on_features: bool = False) -> None:
    losses = head.make_losses(on_features=on_features)
    meter.measure(losses, outputs=head.outputs, features=head.features)


def expect_norms(head: SmallHead, tensors: list[Tensor], *, on_features: bool) -> dict[str, float]:
    norms = {}
    for name, value in head.make_losses(on_features=on_features).items():
        if "loss" in name:
            loss = torch.stack(value).sum() if isinstance(value, list) else value
            gradients = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
            norms[name] = math.sqrt(
                sum(float(g.square().sum()) for g in gradients if g is not None)
            )
    return norms


@pytest.fixture
def meter() -> GradientNormMeter:
    meter = GradientNormMeter()
    meter.is_due = True
    return meter


def test_norms_are_those_of_the_gradients_of_the_outputs(meter: GradientNormMeter) -> None:
    head = SmallHead()

    measure(meter, head)
    norms = meter.take()

    tensors = [level for output in head.outputs for level in output]
    assert norms == pytest.approx(expect_norms(head, tensors, on_features=False), rel=1e-6)
    assert norms["loss_distill_cls"] == 0.0
    assert head.weight.grad is None


def test_all_norms_are_those_of_the_features_if_a_term_acts_on_them(
    meter: GradientNormMeter,
) -> None:
    head = SmallHead()

    measure(meter, head, on_features=True)
    norms = meter.take()

    expected = expect_norms(head, list(head.features), on_features=True)
    assert norms == pytest.approx(expected, rel=1e-6)
    assert norms["loss_pkd"] > 0.0


def test_micro_batches_add_up_to_the_batch(meter: GradientNormMeter) -> None:
    measure(meter, SmallHead())
    batch_norms = meter.take()

    meter.is_due = True
    for images in (slice(0, 1), slice(1, 4)):
        measure(meter, SmallHead(images))
    sum_norms = meter.take()

    assert sum_norms == pytest.approx(batch_norms, rel=1e-6)


def test_a_measurement_ends_when_it_is_taken(meter: GradientNormMeter) -> None:
    measure(meter, SmallHead())
    first = meter.take()

    assert not meter.is_due
    meter.is_due = True
    measure(meter, SmallHead())
    assert meter.take() == first


def test_only_due_steps_are_measured() -> None:
    meter = GradientNormMeter()

    measure(meter, SmallHead())

    with pytest.raises(AssertionError, match="nothing was measured"):
        meter.take()
