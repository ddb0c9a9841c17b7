"""Compares results of mmcv's and torch's operators on a device with references.

Each check includes the backward pass where the operator has a gradient. The references are
independent implementations in float64, on the CPU, without mmcv.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d, nms
from mmdet.models.losses import FocalLoss
from torch import Tensor
from torch.nn import functional

from workers.machine.extension import OperatorError, compiled_targets

TOLERANCE = 1e-4
"""Maximal |result - reference|, relative to the maximal magnitude of the reference."""

_CONVOLUTIONS: Any = attrgetter("cudnn.conv")(torch.backends)
"""torch's settings of cuDNN convolutions, which are not in its type hints."""

_GAMMA, _ALPHA = 2.0, 0.25
_NMS_IOU = 0.5


@dataclass(frozen=True)
class OperatorCheck:
    """Computes the results of an operator and of its reference."""

    name: str
    compute: Callable[[torch.device], list[Tensor]]
    """Results of the operator on a device, in float32: outputs, then gradients."""

    reference: Callable[[], list[Tensor]]
    """The same results in float64, on the CPU."""


def check_operators(device: torch.device) -> dict[str, float]:
    """The relative difference of each operator's results on `device` from their reference.

    Raises `OperatorError` if mmcv has no compiled operators for the device, or if a difference is
    above `TOLERANCE`. Exceptions of the operators are not caught.
    """
    _require_compiled(device)
    # Otherwise a GPU's convolutions round to 10 bits of mantissa, which exceeds `TOLERANCE`.
    precision = _CONVOLUTIONS.fp32_precision
    _CONVOLUTIONS.fp32_precision = "ieee"
    try:
        return {check.name: _difference(check, device) for check in CHECKS}
    finally:
        _CONVOLUTIONS.fp32_precision = precision


def _require_compiled(device: torch.device) -> None:
    if device.type != "cpu" and compiled_targets() == "CPU":
        raise OperatorError("mmcv-full was compiled without operators for GPUs")


def _difference(check: OperatorCheck, device: torch.device) -> float:
    results = [result.detach().double().cpu() for result in check.compute(device)]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    references = [expected.detach() for expected in check.reference()]
    differences = [
        _relative_difference(result, expected)
        for result, expected in zip(results, references, strict=True)
    ]
    # One by one, because `max` ignores NaN.
    for difference in differences:
        if not difference <= TOLERANCE:
            raise OperatorError(
                f"{check.name} on {device} differs from its reference by {difference:.2g}, allowed "
                f"are {TOLERANCE:g}"
            )
    return max(differences)


def _relative_difference(result: Tensor, expected: Tensor) -> float:
    """inf if the shapes differ; NaN if a result is NaN."""
    if result.shape != expected.shape:
        return float("inf")
    scale = max(float(expected.abs().max()), 1e-6)
    return float((result - expected).abs().max()) / scale


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _leaves(tensors: list[Tensor], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    return [tensor.to(device=device, dtype=dtype).requires_grad_() for tensor in tensors]


def _with_gradients(output: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The output, and the gradients of its mean square."""
    return [output, *torch.autograd.grad(output.square().mean(), leaves)]


def _boxes() -> tuple[Tensor, Tensor]:
    """64 boxes (x1, y1, x2, y2) that overlap in clusters, and their scores, all different."""
    corners = 40 * torch.randint(0, 4, (64, 2), generator=torch.Generator().manual_seed(0))
    corners = corners + 4 * _random(64, 2, seed=1)
    return torch.cat([corners, corners + 30], dim=1), torch.linspace(0.1, 0.9, 64)


def _nms(device: torch.device) -> list[Tensor]:
    boxes, scores = _boxes()
    return [nms(boxes.to(device), scores.to(device), _NMS_IOU)[1]]


def _nms_reference() -> list[Tensor]:
    boxes, scores = (tensor.double() for tensor in _boxes())
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    iou = overlap / (area[:, None] + area[None, :] - overlap)
    selected: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(float(iou[index, other]) <= _NMS_IOU for other in selected):
            selected.append(index)
    return [torch.tensor(selected, dtype=torch.float64)]


def _logits() -> tuple[Tensor, Tensor]:
    """Logits (32, 7) of 32 positions and 7 classes, and labels (32,); label 7 is background."""
    labels = torch.randint(0, 8, (32,), generator=torch.Generator().manual_seed(2))
    return 2 * _random(32, 7, seed=3), labels


def _focal_loss(device: torch.device) -> list[Tensor]:
    """As mmdet's heads call it: mmcv's operator on a GPU, torch's operators on a CPU."""
    logits, labels = _logits()
    leaves = _leaves([logits], device, torch.float32)
    loss = FocalLoss(gamma=_GAMMA, alpha=_ALPHA, reduction="none")
    return _with_gradients(loss(leaves[0], labels.to(device)), leaves)


def _focal_loss_reference() -> list[Tensor]:
    """Lin et al., Focal Loss for Dense Object Detection (2017), equation 5."""
    logits, labels = _logits()
    leaves = _leaves([logits], torch.device("cpu"), torch.float64)
    is_class = functional.one_hot(labels, 8)[:, :7].bool()
    probability = torch.where(is_class, leaves[0].sigmoid(), 1 - leaves[0].sigmoid())
    alpha = torch.where(is_class, _ALPHA, 1 - _ALPHA).double()
    return _with_gradients(-alpha * (1 - probability) ** _GAMMA * probability.log(), leaves)


def _convolution_inputs(*, has_offsets: bool) -> list[Tensor]:
    """Input (2, 4, 9, 11), weight (6, 4, 3, 3); offsets (2, 18, 9, 11), mask (2, 9, 9, 11)."""
    inputs = [_random(2, 4, 9, 11, seed=4), _random(6, 4, 3, 3, seed=5)]
    if has_offsets:
        inputs += [_random(2, 18, 9, 11, seed=6), _random(2, 9, 9, 11, seed=7).sigmoid()]
    return inputs


def _convolution(device: torch.device) -> list[Tensor]:
    return _plain_convolution(device, torch.float32)


def _convolution_reference() -> list[Tensor]:
    return _plain_convolution(torch.device("cpu"), torch.float64)


def _plain_convolution(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    leaves = _leaves(_convolution_inputs(has_offsets=False), device, dtype)
    image, weight = leaves
    return _with_gradients(functional.conv2d(image, weight, padding=1), leaves)


def _deformable(device: torch.device) -> list[Tensor]:
    leaves = _leaves(_convolution_inputs(has_offsets=True)[:3], device, torch.float32)
    image, weight, offset = leaves
    return _with_gradients(deform_conv2d(image, offset, weight, 1, 1), leaves)


def _deformable_reference() -> list[Tensor]:
    inputs = _convolution_inputs(has_offsets=True)[:3]
    leaves = _leaves(inputs, torch.device("cpu"), torch.float64)
    image, weight, offset = leaves
    return _with_gradients(_sampled_convolution(image, weight, offset), leaves)


def _modulated(device: torch.device) -> list[Tensor]:
    leaves = _leaves(_convolution_inputs(has_offsets=True), device, torch.float32)
    image, weight, offset, mask = leaves
    output = modulated_deform_conv2d(image, offset, mask, weight, None, 1, 1)
    return _with_gradients(output, leaves)


def _modulated_reference() -> list[Tensor]:
    inputs = _convolution_inputs(has_offsets=True)
    leaves = _leaves(inputs, torch.device("cpu"), torch.float64)
    image, weight, offset, mask = leaves
    return _with_gradients(_sampled_convolution(image, weight, offset, mask), leaves)


def _sampled_convolution(
    image: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Dai et al., Deformable Convolutional Networks (2017), equation 2, by `grid_sample`.

    For a 3x3 kernel, stride 1, padding 1; offsets are (dy, dx) for each kernel position.
    """
    height, width = image.shape[-2:]
    rows = torch.arange(height, dtype=image.dtype)[:, None]
    columns = torch.arange(width, dtype=image.dtype)[None, :]
    output = image.new_zeros(image.shape[0], weight.shape[0], height, width)
    for position in range(9):
        y = rows + position // 3 - 1 + offset[:, 2 * position]
        x = columns + position % 3 - 1 + offset[:, 2 * position + 1]
        grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
        sampled = functional.grid_sample(image, grid, align_corners=True)
        if mask is not None:
            sampled = sampled * mask[:, position : position + 1]
        kernel = weight[:, :, position // 3, position % 3]
        output = output + torch.einsum("oc,bchw->bohw", kernel, sampled)
    return output


CHECKS = (
    OperatorCheck("nms", _nms, _nms_reference),
    OperatorCheck("sigmoid_focal_loss", _focal_loss, _focal_loss_reference),
    OperatorCheck("deform_conv2d", _deformable, _deformable_reference),
    OperatorCheck("modulated_deform_conv2d", _modulated, _modulated_reference),
    OperatorCheck("conv2d", _convolution, _convolution_reference),
)
"""Operators that dense detectors need in addition to basic ones, and a convolution."""
