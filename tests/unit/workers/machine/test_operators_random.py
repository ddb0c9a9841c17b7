"""mmcv's compiled operators against torchvision's on random inputs, as the heads call them.

The heads call `batched_nms` (all of them), `FocalLoss` (RetinaNet, FCOS), which on a CPU is made of
torch's operators, `DeformConv2d` (VFNet) and, in backbones with DCNv2, `ModulatedDeformConv2d`.
torchvision computes in float64. The references in `workers.machine.operators`, for the doctor, are
of one case each and share no code with torchvision either.
"""

import pytest
import torch
import torchvision.ops
from mmcv.ops import batched_nms, deform_conv2d, modulated_deform_conv2d, nms
from mmdet.models.losses import FocalLoss
from torch import Tensor

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-4, 1e-5
"""Of float32 against float64: sums of up to 100 products of numbers of about 1."""

SEEDS = range(6)


def draw_normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Normal numbers of float32 that requires gradients."""
    return torch.randn(*shape, generator=generator).requires_grad_()


def draw_integers(generator: torch.Generator, low: int, high: int) -> int:
    """From low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def make_boxes_and_scores(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Boxes (x1, y1, x2, y2), of which many overlap, and scores, all different."""
    corners = 100 * torch.rand(count, 2, generator=generator)
    sides = 5 + 60 * torch.rand(count, 2, generator=generator)
    scores = (1 + torch.randperm(count, generator=generator)) / (count + 1)
    return torch.cat([corners, corners + sides], dim=1), scores


def assert_close_with_gradients(
    result: Tensor, expected: Tensor, leaves: list[Tensor], references: list[Tensor]
) -> None:
    """Compares two outputs, and the gradients of the same weighted sum of each."""
    weights = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).reshape(expected.shape)
    gradients = torch.autograd.grad((result * weights.float()).sum(), leaves)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), references)
    for value, reference in zip([result, *gradients], [expected, *expected_gradients], strict=True):
        torch.testing.assert_close(
            value.double(), reference, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE
        )


def convert_to_float64(leaves: list[Tensor]) -> list[Tensor]:
    return [leaf.detach().double().requires_grad_() for leaf in leaves]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("threshold", [0.1, 0.6])
def test_nms_keeps_the_boxes_that_torchvision_keeps(
    seed: int, count: int, threshold: float
) -> None:
    boxes, scores = make_boxes_and_scores(torch.Generator().manual_seed(seed), count)

    selected_boxes, selected = nms(boxes, scores, threshold)

    expected = torchvision.ops.nms(boxes.double(), scores.double(), threshold)
    assert selected.tolist() == expected.tolist()
    assert torch.equal(selected_boxes, torch.cat([boxes, scores[:, None]], dim=1)[expected])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("split_thr", [10_000, 100], ids=["at_once", "class_by_class"])
def test_batched_nms_keeps_the_boxes_that_torchvision_keeps(seed: int, split_thr: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes, scores = make_boxes_and_scores(generator, 300)
    classes = torch.randint(0, 5, (300,), generator=generator)

    config = {"type": "nms", "iou_threshold": 0.6, "split_thr": split_thr}
    selected_boxes, selected = batched_nms(boxes, scores, classes, config)

    expected = torchvision.ops.batched_nms(boxes.double(), scores.double(), classes, 0.6)
    assert selected.tolist() == expected.tolist()
    assert torch.equal(selected_boxes, torch.cat([boxes, scores[:, None]], dim=1)[expected])


@pytest.mark.parametrize("seed", SEEDS)
def test_focal_loss_and_its_gradient_are_torchvisions(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gamma, alpha = 1.0 + draw_integers(generator, 0, 2), 0.25 * draw_integers(generator, 1, 3)
    labels = torch.randint(0, 8, (40,), generator=generator)  # label 7 is background
    leaves = [draw_normal(generator, 40, 7)]
    references = convert_to_float64(leaves)

    loss = FocalLoss(gamma=gamma, alpha=alpha, reduction="none")(leaves[0], labels)

    targets = torch.nn.functional.one_hot(labels, 8)[:, :7].double()
    expected = torchvision.ops.sigmoid_focal_loss(references[0], targets, alpha, gamma)
    assert_close_with_gradients(loss, expected, leaves, references)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("is_modulated", [False, True], ids=["DCN", "DCNv2"])
def test_deformable_convolutions_and_their_gradients_are_torchvisions(
    seed: int, is_modulated: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    kernel, stride = 2 * draw_integers(generator, 0, 1) + 1, draw_integers(generator, 1, 2)
    padding, dilation = draw_integers(generator, 0, 2), draw_integers(generator, 1, 2)
    groups, offset_groups = draw_integers(generator, 1, 2), draw_integers(generator, 1, 2)
    height, width = 7 + draw_integers(generator, 0, 4), 7 + draw_integers(generator, 0, 4)
    image = draw_normal(generator, draw_integers(generator, 1, 3), 4, height, width)
    weight = draw_normal(generator, 6, 4 // groups, kernel, kernel)
    rows, columns = (
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for size in (height, width)
    )
    # Some of the places to sample lie outside of the image.
    points = offset_groups * kernel**2
    offset = (3 * draw_normal(generator, len(image), 2 * points, rows, columns)).detach()
    leaves = [image, weight, offset.requires_grad_()]
    if is_modulated:
        mask = torch.rand(len(image), points, rows, columns, generator=generator)
        leaves += [mask.requires_grad_(), draw_normal(generator, 6)]
    references = convert_to_float64(leaves)

    shape = (stride, padding, dilation, groups, offset_groups)
    if is_modulated:
        image, weight, offset, mask, bias = leaves
        result = modulated_deform_conv2d(image, offset, mask, weight, bias, *shape)
    else:
        result = deform_conv2d(image, offset, weight, *shape)

    image, weight, offset = references[:3]
    reference_mask, reference_bias = references[3:] or (None, None)
    expected = torchvision.ops.deform_conv2d(
        image, offset, weight, reference_bias, stride, padding, dilation, reference_mask
    )
    assert_close_with_gradients(result, expected, leaves, references)
