"""BatchNorms with frozen statistics, computed by the convolutions before them.

In eval mode, as with `norm_eval`, a BatchNorm is an affine map of each channel with
scale = gamma / sqrt(var + eps). A convolution with weight * scale as weight and beta - mean * scale
as bias has the same output, and its gradients of weight, gamma and beta follow by the chain rule.
That leaves out three passes over each activation, and the convolution's output, which BatchNorm
would keep for the backward pass. Parameters, buffers and their names stay as they are.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


def fold_frozen_norms(module: nn.Module) -> None:
    """Have each convolution compute the BatchNorm after it where that saves time and memory.

    A BatchNorm in training mode, and a forward pass without gradients, are as before, bit for bit.
    """
    for conv, norm in _iter_pairs(module):
        pair = _ConvAndNorm(conv, norm)
        conv._conv_forward = pair.forward_conv  # type: ignore[assignment]
        norm.forward = pair.forward_norm  # type: ignore[assignment]


def _iter_pairs(module: nn.Module) -> Iterator[tuple[nn.Conv2d, _BatchNorm]]:
    """Convolutions and the BatchNorms after them, by the order of registration, as in mmcv."""
    previous: nn.Module | None = None
    for child in module.children():
        if isinstance(child, _BatchNorm) and _is_foldable(previous, child):
            assert isinstance(previous, nn.Conv2d)
            yield previous, child
        yield from _iter_pairs(child)
        previous = child


def _is_foldable(conv: nn.Module | None, norm: _BatchNorm) -> bool:
    return (
        isinstance(conv, nn.Conv2d)
        and conv.bias is None
        and isinstance(conv.padding, tuple)
        and conv.padding_mode == "zeros"
        and norm.affine
        and norm.track_running_stats
    )


class _ConvAndNorm:
    """The forward passes of a convolution and of the BatchNorm that takes its output."""

    def __init__(self, conv: nn.Conv2d, norm: _BatchNorm) -> None:
        self.conv = conv
        self.norm = norm
        self._forward_norm = norm.forward
        self._is_folded = False

    def forward_conv(self, maps_BCHW: Tensor, weight: Tensor, bias: None) -> Tensor:
        """Convolve; a folded output is normalized already."""
        self._is_folded = not self.norm.training and self._saves_work(maps_BCHW)
        if not self._is_folded:
            return nn.Conv2d._conv_forward(self.conv, maps_BCHW, weight, bias)
        device = maps_BCHW.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            maps_BCHW = maps_BCHW.to(torch.get_autocast_dtype(device))
        normalized_BCHW: Tensor = _FoldedConvolution.apply(
            maps_BCHW, weight, self.norm.weight, self.norm.bias, self
        )
        return normalized_BCHW

    def forward_norm(self, maps_BCHW: Tensor) -> Tensor:
        """Normalize the output of the convolution, unless it is normalized."""
        return maps_BCHW if self._is_folded else self._forward_norm(maps_BCHW)

    def _saves_work(self, maps_BCHW: Tensor) -> bool:
        """Whether there is a backward pass, and a channel has fewer weights than positions.

        Folding passes over the weights instead of the activations.
        """
        if not torch.is_grad_enabled():
            return False
        batch, _, height, width = maps_BCHW.shape
        step_y, step_x = self.conv.stride
        positions = batch * (height // step_y) * (width // step_x)
        return positions > self.conv.weight.numel() // self.conv.out_channels

    def options(self) -> tuple[Any, ...]:
        """Stride, padding, dilation, transposition, output padding and groups."""
        conv = self.conv
        return conv.stride, conv.padding, conv.dilation, False, (0, 0), conv.groups


class _FoldedConvolution(torch.autograd.Function):
    """Keeps the weight and not its folded copy, which it computes again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        maps_BCHW: Tensor,
        weight: Tensor,
        gamma_C: Tensor,
        beta_C: Tensor,
        pair: _ConvAndNorm,
    ) -> Tensor:
        mean_C, var_C = pair.norm.running_mean, pair.norm.running_var
        assert mean_C is not None
        assert var_C is not None
        inverse_std_C = torch.rsqrt(var_C + pair.norm.eps)
        scale_C = gamma_C * inverse_std_C
        bias_C = torch.addcmul(beta_C, mean_C, scale_C, value=-1)
        ctx.options = pair.options()
        ctx.save_for_backward(maps_BCHW, weight, scale_C, mean_C, inverse_std_C)
        dtype = maps_BCHW.dtype
        return torch.convolution(
            maps_BCHW, _cast(_scale(weight, scale_C), dtype), _cast(bias_C, dtype), *ctx.options
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        maps_BCHW, weight, scale_C, mean_C, inverse_std_C = ctx.saved_tensors
        needs_maps, *needs_parameters = ctx.needs_input_grad[:4]
        maps_grad, folded_grad, _ = torch.ops.aten.convolution_backward(
            grad_BCHW,
            maps_BCHW,
            _cast(_scale(weight, scale_C), maps_BCHW.dtype),
            None,
            *ctx.options,
            (needs_maps, any(needs_parameters), False),
        )
        if folded_grad is None:
            return maps_grad, None, None, None, None
        # In the weight's precision: `mean * beta_grad` is subtracted from a similar value.
        beta_grad_C = grad_BCHW.sum((0, 2, 3), dtype=weight.dtype)
        folded_grad = _cast(folded_grad, weight.dtype)
        product_C = (folded_grad * weight).sum((1, 2, 3))
        gamma_grad_C = torch.addcmul(product_C, mean_C, beta_grad_C, value=-1).mul_(inverse_std_C)
        weight_grad = folded_grad.mul_(scale_C.view(-1, 1, 1, 1))
        return maps_grad, weight_grad, gamma_grad_C, beta_grad_C, None


def _scale(weight: Tensor, scale_C: Tensor) -> Tensor:
    return weight * scale_C.view(-1, 1, 1, 1)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
