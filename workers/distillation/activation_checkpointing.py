"""Activation checkpointing of a backbone: block activations are recomputed in the backward pass."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.backbones.swin import SwinBlock
from mmdet.models.utils import CSPLayer, InvertedResidual
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_BLOCKS: tuple[type[nn.Module], ...] = (
    BasicBlock,
    Bottleneck,
    CSPLayer,
    InvertedResidual,
    SwinBlock,
)


def enable_activation_checkpointing(backbone: nn.Module) -> None:
    """Discard the activations of every block and recompute them in the backward pass.

    Outputs, gradients and running statistics are bit for bit the same as without it.
    """
    for block in backbone.modules():
        if isinstance(block, _BLOCKS) or getattr(block, "is_block", False):
            block.forward = partial(_checkpointed_forward, block, block.forward)


def _checkpointed_forward(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(
        forward,
        *args,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _preserve_running_stats(block)),
        **kwargs,
    )


@contextlib.contextmanager
def _preserve_running_stats(block: nn.Module) -> Iterator[None]:
    """Keep recomputation from updating BatchNorm's running statistics a second time."""
    saved_buffers = [
        (norm, {name: value.clone() for name, value in norm.named_buffers()})
        for norm in block.modules()
        if isinstance(norm, _BatchNorm) and norm.training
    ]
    try:
        yield
    finally:
        for norm, buffers in saved_buffers:
            for name, value in buffers.items():
                getattr(norm, name).copy_(value)
