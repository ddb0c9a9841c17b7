"""Gradient checkpointing of a backbone: its blocks' features are computed twice and not kept."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.backbones.swin import SwinBlock
from mmdet.models.utils import InvertedResidual
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_BLOCKS: tuple[type[nn.Module], ...] = (BasicBlock, Bottleneck, InvertedResidual, SwinBlock)


def enable_activation_checkpointing(backbone: nn.Module) -> None:
    """Have every block of `backbone` forget its features until the backward pass needs them.

    Outputs, gradients and running statistics stay the same, bit for bit.
    """
    for block in backbone.modules():
        if isinstance(block, _BLOCKS) or getattr(block, "is_block", False):
            block.forward = partial(_forward_twice, block, block.forward)


def _forward_twice(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(
        forward,
        *args,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _statistics_at_rest(block)),
        **kwargs,
    )


@contextlib.contextmanager
def _statistics_at_rest(block: nn.Module) -> Iterator[None]:
    """Without this the second pass would move BatchNorm's running statistics a second time."""
    kept = [
        (norm, {name: value.clone() for name, value in norm.named_buffers()})
        for norm in block.modules()
        if isinstance(norm, _BatchNorm) and norm.training
    ]
    try:
        yield
    finally:
        for norm, buffers in kept:
            for name, value in buffers.items():
                getattr(norm, name).copy_(value)
