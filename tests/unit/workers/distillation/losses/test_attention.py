"""Attention and losses that weight locations and channels, on numbers computed by hand."""

import math

import pytest
import torch
from torch import Tensor

from workers.distillation.losses.attention import (
    FeatureAttention,
    attention_loss,
    background_scale,
    foreground_scale,
    squared_distance,
)

LN3 = math.log(3.0)


def make_maps(*channels: list[float]) -> Tensor:
    """Maps of one image, (1, C, 1, W)."""
    return torch.tensor(channels).reshape(1, len(channels), 1, -1)


def test_attention_is_the_softmax_of_the_size_of_features_whatever_their_sign() -> None:
    maps = make_maps([LN3, 0.0], [-LN3, 0.0])

    attention = FeatureAttention.of(maps, temperature=1.0)

    # (3/4, 1/4) of two locations, and 1/2 of each of two channels.
    assert attention.locations_BHW.flatten().tolist() == pytest.approx([1.5, 0.5])
    assert attention.channels_BC.tolist() == [pytest.approx([1.0, 1.0])]
    assert attention.weight_BCHW.flatten().tolist() == pytest.approx([1.5, 0.5, 1.5, 0.5])


def test_a_lower_temperature_sharpens_attention() -> None:
    attention = FeatureAttention.of(make_maps([LN3 / 2.0], [0.0]), temperature=0.5)

    assert attention.channels_BC.flatten().tolist() == pytest.approx([1.5, 0.5])


def test_attention_of_an_image_does_not_depend_on_the_others() -> None:
    maps = torch.rand(3, 4, 5, 6)

    together = FeatureAttention.of(maps, temperature=0.5)
    single = FeatureAttention.of(maps[1:2], temperature=0.5)

    assert together.weight_BCHW.shape == maps.shape
    torch.testing.assert_close(together.weight_BCHW[1:2], single.weight_BCHW)


def test_attention_loss_adds_up_locations_and_channels_and_averages_images() -> None:
    flat = make_maps([0.0, 0.0], [0.0, 0.0])
    pairs = torch.cat([make_maps([LN3, 0.0], [LN3, 0.0]), flat])

    loss = attention_loss(
        FeatureAttention.of(torch.cat([flat, flat]), temperature=1.0),
        FeatureAttention.of(pairs, temperature=1.0),
    )

    # The first image differs by 1/2 at each of two locations, the second one by nothing.
    assert loss.item() == pytest.approx((0.5 + 0.5) / 2.0)


def test_squared_distance_is_weighted_and_averaged_over_images() -> None:
    student = torch.cat([make_maps([1.0, 2.0]), make_maps([3.0, 4.0])])
    weight = torch.tensor([1.0, 0.5]).reshape(1, 1, 1, 2)

    plain = squared_distance(student, student * 0.0)
    weighted = squared_distance(student, student * 0.0, weight_BCHW=weight)

    assert plain.item() == pytest.approx((1 + 4 + 9 + 16) / 2)
    assert weighted.item() == pytest.approx((1 + 4 / 2 + 9 + 16 / 2) / 2)


def test_boxes_scale_their_locations_by_the_smallest_one() -> None:
    # In strides: (1, 0, 2, 1), and (0, 0, 3, 1) around it; edges are rounded outwards.
    boxes = torch.tensor([[9.0, 1.0, 15.0, 7.0], [0.0, 0.0, 24.0, 8.0]])

    scale = foreground_scale(boxes, size=(3, 5), stride=8)

    large, small = 1.0 / (4 * 2), 1.0 / (2 * 2)
    row = [large, small, small, large, 0.0]
    assert scale.tolist() == [pytest.approx(row), pytest.approx(row), [0.0] * 5]


def test_rows_and_columns_are_not_confused() -> None:
    scale = foreground_scale(torch.tensor([[0.0, 0.0, 7.0, 23.0]]), size=(4, 3), stride=8)

    assert (scale > 0.0).tolist() == [[True, True, False]] * 4


def test_the_part_of_a_box_outside_of_the_map_counts() -> None:
    scale = foreground_scale(torch.tensor([[0.0, 0.0, 8.0, 8.0]]), size=(1, 2), stride=8)

    assert scale.tolist() == [[0.25, 0.25]]


def test_an_image_without_boxes_is_background() -> None:
    foreground = foreground_scale(torch.zeros(0, 4), size=(2, 2), stride=8)

    assert foreground.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert background_scale(foreground[None]).tolist() == [[[0.25, 0.25], [0.25, 0.25]]]


def test_background_is_normalized_by_image() -> None:
    foreground = torch.tensor([[[0.5, 0.0, 0.0]], [[0.5, 0.5, 0.5]]])

    assert background_scale(foreground).tolist() == [[[0.0, 0.5, 0.5]], [[0.0, 0.0, 0.0]]]


@pytest.mark.parametrize("boxes", [[[0.0, 0.0, 8.0, 8.0]], []], ids=["a box", "no box"])
def test_gradients_are_finite(boxes: list[list[float]]) -> None:
    student = torch.zeros(1, 2, 2, 2, requires_grad=True)
    teacher = FeatureAttention.of(torch.rand(1, 2, 2, 2), temperature=0.5)
    boxes_M4 = torch.tensor(boxes).reshape(-1, 4)
    scale = foreground_scale(boxes_M4, size=(2, 2), stride=8)[None, None]

    attention = FeatureAttention.of(student, temperature=0.5)
    distance = squared_distance(student, torch.ones(1, 2, 2, 2), weight_BCHW=scale)
    (attention_loss(attention, teacher) + distance).backward()

    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
