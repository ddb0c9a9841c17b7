"""MGD: masks follow from the seed of an image, whatever else is in the batch."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from configs.spec.distillation import Mgd
from workers.distillation.batch import DistillationBatch
from workers.distillation.methods.golden import GoldenOutputs, make_golden_batch
from workers.distillation.methods.mgd import MgdMethod, draw_masks


def make_batch(*seeds: int) -> DistillationBatch:
    """Two levels of 20 x 30 and 10 x 15 locations, with two channels in the student and three in
    the teacher."""
    sides = [
        GoldenOutputs(
            [torch.ones(len(seeds), channels, height, width) for height, width in SIZES],
        )
        for channels in (2, 3)
    ]
    return dataclasses.replace(make_golden_batch(*sides), image_seeds=seeds)


SIZES = ((20, 30), (10, 15))


def test_the_masks_of_an_image_do_not_depend_on_its_batch() -> None:
    together, single = (
        draw_masks(batch, ratio=0.65) for batch in (make_batch(7, 8, 9), make_batch(8))
    )

    assert [mask.shape for mask in together] == [(3, 1, 20, 30), (3, 1, 10, 15)]
    for mask, single_mask in zip(together, single, strict=True):
        assert torch.equal(mask[1:2], single_mask)
        assert not torch.equal(mask[0], mask[1])


def test_masks_leave_the_generators_of_the_step_alone() -> None:
    state = torch.get_rng_state()

    draw_masks(make_batch(1), ratio=0.65)

    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("ratio", [0.1, 0.65])
def test_the_ratio_is_the_fraction_that_is_masked(ratio: float) -> None:
    masks = draw_masks(make_batch(*range(8)), ratio=ratio)

    visible = torch.cat([mask.flatten() for mask in masks]).float().mean().item()

    # 6,000 draws have a deviation of 0.006.
    assert visible == pytest.approx(1.0 - ratio, abs=0.03)


def test_each_level_has_a_block_and_widths_are_adapted() -> None:
    student, teacher = (
        SimpleNamespace(
            neck=SimpleNamespace(out_channels=channels),
            head_adapter=SimpleNamespace(strides=[8, 16]),
        )
        for channels in (2, 3)
    )

    adapters = nn.ModuleDict(MgdMethod().build_adapters(Mgd(), student, teacher))
    terms = MgdMethod().terms(Mgd(), make_batch(1), adapters)
    torch.stack(terms["loss_mgd"]).sum().backward()

    blocks = adapters["mgd_generation"]
    assert isinstance(blocks, nn.ModuleList)
    assert len(blocks) == len(terms["loss_mgd"]) == 2
    assert adapters.keys() == {"mgd", "mgd_generation"}
    assert all(parameter.grad is not None for parameter in adapters.parameters())
