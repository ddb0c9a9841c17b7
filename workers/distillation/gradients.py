"""Gradients of loss terms with respect to the outputs of a detector."""

from typing import Any

import torch
from torch import Tensor

Gradients = list[Tensor | None]
"""One gradient per tensor; None where the loss does not depend on the tensor."""


def sum_terms(losses: dict[str, Any]) -> dict[str, Tensor]:
    """Each loss term summed over its levels, without other values, as numbers of positives."""
    return {name: _sum_over_levels(loss) for name, loss in losses.items() if "loss" in name}


def _sum_over_levels(value: Tensor | list[Tensor]) -> Tensor:
    if not isinstance(value, list):
        return value.sum()
    return sum(level_loss.sum() for level_loss in value)  # type: ignore[return-value]


def compute_gradients(loss: Tensor, tensors: list[Tensor]) -> Gradients:
    """The gradient with respect to each tensor; the graph is kept, parameters get no gradient."""
    if not loss.requires_grad:
        return [None] * len(tensors)
    return list(torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True))


def dot_product(first: Gradients, second: Gradients, *, device: torch.device) -> Tensor:
    """Compute the dot product in fp32, whatever the dtype of the gradients.

    The pairwise summation of `Tensor.sum` is exact to 1e-6; `torch.dot` and `torch.norm` of a
    million numbers are not.
    """
    pairs = zip(first, second, strict=True)
    products = [
        first_grad.to(torch.float32, copy=True).mul_(second_grad).sum()
        for first_grad, second_grad in pairs
        if first_grad is not None and second_grad is not None
    ]
    return torch.stack(products).sum() if products else torch.zeros((), device=device)
