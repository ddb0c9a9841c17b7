"""Share and direction of each loss term's gradient.

Gradients are taken with respect to the head's outputs, which is cheap because no layer is
backpropagated through. If a method acts on features, all terms are measured at the pyramid's
outputs instead, which costs one backward pass of the head per term.

At each level only two sets of gradients are in memory: that of one term and that of the sum of the
detector's own losses. Only their dot products are kept, and read from the device all at once.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.distillation.gradients import Gradients, compute_gradients, dot_product, sum_terms


@dataclass(frozen=True)
class TermShare:
    """Gradient share of one loss term at one feature level, or at all levels (`level` is None)."""

    term: str
    level: int | None
    norm: float
    """L2 norm of the term's gradient."""

    share: float
    """`norm` over the sum of all terms' norms at this level, from 0 to 1."""

    cosine: float
    """Cosine with the gradient of the detector's own losses, -1 to 1; 0 if either is 0."""


@dataclass(frozen=True)
class _Projection:
    """A gradient's norm and its dot product with the gradient of the detector's own losses."""

    squared_norm: float
    dot: float

    @classmethod
    def over(cls, projections: Iterable["_Projection"]) -> "_Projection":
        """Combine several levels as if their gradients were one vector."""
        levels = list(projections)
        return cls(sum(level.squared_norm for level in levels), sum(level.dot for level in levels))

    @property
    def norm(self) -> float:
        return math.sqrt(self.squared_norm)


@dataclass(frozen=True)
class _Measurement:
    """Projections by feature level, of the sum of the detector's own losses and of every term."""

    detector: list[_Projection]
    by_term: dict[str, list[_Projection]]

    @property
    def has_zero_term(self) -> bool:
        """Whether a term has no gradient at any level."""
        return any(_Projection.over(levels).norm == 0.0 for levels in self.by_term.values())


class LossShareMeter:
    """Measures the loss shares of a step while `is_due`; other steps cost nothing."""

    def __init__(self) -> None:
        self.is_due = False
        self.shares: list[TermShare] = []

    def measure(
        self,
        detector_losses: dict[str, Any],
        distillation_losses: dict[str, Any],
        *,
        outputs: tuple[list[Tensor], ...],
        features: tuple[Tensor, ...],
    ) -> None:
        """Measure every term, if due. Parameters get no gradients."""
        if not self.is_due:
            return
        self.is_due = False
        terms = sum_terms(detector_losses | distillation_losses)
        detector = torch.stack([terms[name] for name in detector_losses if name in terms]).sum()
        at_outputs = [[maps[level] for maps in outputs] for level in range(len(features))]
        measurement = _measure(terms, detector, levels=at_outputs)
        if measurement.has_zero_term:
            measurement = _measure(terms, detector, levels=[[maps] for maps in features])
        self.shares = list(_shares(measurement))


def _measure(
    terms: dict[str, Tensor], detector: Tensor, *, levels: list[list[Tensor]]
) -> _Measurement:
    """Differentiate every term with respect to the tensors of each level in turn."""
    losses = [detector, *terms.values()]
    products_L_T_2 = torch.stack([_products_at(losses, level_tensors) for level_tensors in levels])
    # The only device synchronization.
    by_level = products_L_T_2.tolist()
    detector_column, *columns = (
        [_Projection(*products[position]) for products in by_level]
        for position in range(len(losses))
    )
    return _Measurement(detector_column, dict(zip(terms, columns, strict=True)))


def _products_at(losses: list[Tensor], tensors: list[Tensor]) -> Tensor:
    """Dot product of each loss's gradient with itself and with that of the first loss, (T, 2)."""
    reference = compute_gradients(losses[0], tensors)
    device = tensors[0].device
    return torch.stack(
        [_products(compute_gradients(loss, tensors), reference, device=device) for loss in losses]
    )


def _products(gradients: Gradients, reference: Gradients, *, device: torch.device) -> Tensor:
    pairs = ((gradients, gradients), (gradients, reference))
    return torch.stack([dot_product(first, second, device=device) for first, second in pairs])


def _shares(measurement: _Measurement) -> Iterator[TermShare]:
    """Yield the shares over all levels together, then those of each level."""
    levels: list[int | None] = [None, *range(len(measurement.detector))]
    for level in levels:
        by_term = {
            name: _select_level(projections, level)
            for name, projections in measurement.by_term.items()
        }
        sum_of_norms = sum(projection.norm for projection in by_term.values())
        detector = _select_level(measurement.detector, level)
        for name, projection in by_term.items():
            yield TermShare(
                term=name,
                level=level,
                norm=projection.norm,
                share=projection.norm / sum_of_norms if sum_of_norms else 0.0,
                cosine=_cosine(projection, detector),
            )


def _select_level(projections: list[_Projection], level: int | None) -> _Projection:
    return _Projection.over(projections) if level is None else projections[level]


def _cosine(projection: _Projection, detector: _Projection) -> float:
    norms = projection.norm * detector.norm
    if not norms:
        return 0.0
    # Rounding can bring the quotient above 1.
    return max(min(projection.dot / norms, 1.0), -1.0)
