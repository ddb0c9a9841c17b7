"""Gradient norms of all loss terms over a step, as the weights that follow a share need them."""

import math
from typing import Any

import torch
from torch import Tensor

from workers import distributed
from workers.distillation.gradients import compute_gradients, dot_product, sum_terms


class GradientNormMeter:
    """Measures the gradient norm of each loss term over a step, while `is_due`.

    Gradients are taken with respect to the head's outputs; for all terms with respect to the
    pyramid's outputs, if a term does not depend on the head's. Unlike the loss shares, which switch
    where a term's gradient is 0, this follows from the terms and not from the batch: measurements
    of different batches and processes are comparable.

    The squared norms of micro-batches and processes add up, because each image has outputs of its
    own; the factor that a mean over them lacks is the same for all terms.
    """

    def __init__(self) -> None:
        self.is_due = False
        self._names: list[str] = []
        self._squared_norms_T: Tensor | None = None

    def measure(
        self,
        losses: dict[str, Any],
        *,
        outputs: tuple[list[Tensor], ...],
        features: tuple[Any, ...],
    ) -> None:
        """Add the squared norms of a micro-batch, if due. Parameters get no gradients."""
        if not self.is_due:
            return
        terms = sum_terms(losses)
        head_maps = [maps for output in outputs for maps in output]
        squared_T = _squared_norms(list(terms.values()), head_maps)
        if squared_T is None:
            squared_T = _squared_norms(list(terms.values()), list(features), requires_all=False)
        assert squared_T is not None
        self._names = list(terms)
        previous_T = self._squared_norms_T
        self._squared_norms_T = squared_T if previous_T is None else previous_T + squared_T

    def take(self) -> dict[str, float]:
        """The norms of the step's terms over all micro-batches and processes, up to one factor.

        Ends the measurement; a collective.
        """
        assert self._squared_norms_T is not None, "nothing was measured in this step"
        totals = distributed.all_reduce_sum(self._squared_norms_T).tolist()
        norms = {name: math.sqrt(total) for name, total in zip(self._names, totals, strict=True)}
        self.is_due, self._squared_norms_T = False, None
        return norms


def _squared_norms(
    losses: list[Tensor], tensors: list[Tensor], *, requires_all: bool = True
) -> Tensor | None:
    """The squared norm of each loss's gradient, (T,); None if a loss depends on none of the tensors
    and `requires_all`."""
    squares = []
    for loss in losses:
        gradients = compute_gradients(loss, tensors)
        if requires_all and all(gradient is None for gradient in gradients):
            return None
        squares.append(dot_product(gradients, gradients, device=tensors[0].device))
    return torch.stack(squares)
