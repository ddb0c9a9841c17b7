"""The batch of images without labels, whose losses are worked out by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from configs.spec.distillation import Bckd
from workers.distillation.batch import DistillationBatch
from workers.distillation.methods.bckd import BckdMethod
from workers.distillation.methods.golden import GoldenOutputs, make_golden_batch
from workers.distillation.unlabelled import find_valid_locations, make_unlabelled_batch

STRIDE = 8
"""Of the first level of golden outputs; that of the second is twice as much."""


def make_batch(
    teacher: list[Tensor], *, student: list[Tensor], pad_shape: tuple[int, int], columns: Tensor
) -> DistillationBatch:
    """Class logits of both sides by level, and boxes with a GIoU of 1/2 everywhere."""
    sides = [
        GoldenOutputs(levels, logits=levels, boxes=[make_boxes(maps, height) for maps in levels])
        for levels, height in ((student, 2.0), (teacher, 4.0))
    ]
    golden = make_golden_batch(*sides)
    return make_unlabelled_batch(
        golden.student,
        golden.teacher,
        metas=[{"pad_shape": (*pad_shape, 3), "seed": 0}],
        teacher_columns=columns,
    )


def make_boxes(maps_BCHW: Tensor, height: float) -> Tensor:
    edges = torch.tensor([0.0, 0.0, 2.0, height]).reshape(1, 4, 1, 1)
    return edges.expand(-1, -1, *maps_BCHW.shape[-2:])


def test_losses_are_normalized_by_the_teachers_highest_scores() -> None:
    """Two levels of 2 x 2 and 1 x 1 positions; the teacher's score is 3/4 at two of the five, and 0
    at the others, where the student agrees. Its second class is ignored."""
    sure, none = math.log(3.0), -50.0
    teacher = [
        torch.tensor([[[[sure, none], [none, none]], [[9.0, 9.0], [9.0, 9.0]]]]),
        torch.tensor([[[[sure]], [[9.0]]]]),
    ]
    student = [
        torch.tensor([[[[0.0, none], [none, none]]]]),
        torch.tensor([[[[0.0]]]]),
    ]

    batch = make_batch(teacher, student=student, pad_shape=(16, 16), columns=torch.tensor([0]))
    terms = BckdMethod().terms(Bckd(), batch, nn.ModuleDict())

    # At both positions p(s) = 1/2 and |p(t) - p(s)| = 1/4; the scores add up to 3/2.
    cls, loc = math.log(2.0) / 4.0 / 1.5, 4.0 * 0.25 * 0.5 / 1.5
    assert [float(value) for value in terms["loss_distill_cls"]] == pytest.approx([cls, cls])
    assert [float(value) for value in terms["loss_distill_loc"]] == pytest.approx([loc, loc])


def test_a_teacher_that_sees_nothing_has_a_normalizer_of_1() -> None:
    maps = [torch.full((1, 1, 2, 2), -50.0)]

    batch = make_batch(
        maps, student=[torch.zeros(1, 1, 2, 2)], pad_shape=(16, 16), columns=torch.tensor([0])
    )

    assert float(batch.assignment.num_pos) == 1.0
    terms = BckdMethod().terms(Bckd(), batch, nn.ModuleDict())
    assert float(sum(terms["loss_distill_cls"])) == pytest.approx(4 * 0.5 * math.log(2.0))


def test_positions_outside_of_an_image_have_no_weight() -> None:
    maps = torch.zeros(2, 1, 3, 4)

    valid_BHW = find_valid_locations(maps, [(24, 32), (9, 16)], stride=STRIDE)

    assert valid_BHW[0].all()
    assert valid_BHW[1].tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, False, False],
    ]


def test_padding_counts_neither_in_losses_nor_in_the_normalizer() -> None:
    teacher, student = [torch.full((1, 1, 2, 2), 50.0)], [torch.zeros(1, 1, 2, 2)]

    batch = make_batch(teacher, student=student, pad_shape=(16, 8), columns=torch.tensor([0]))

    assert float(batch.assignment.num_pos) == 2.0
    assert batch.assignment.label_weight_N[0].tolist() == [1.0, 0.0, 1.0, 0.0]
