"""What each term of the loss does: its share of the gradient, and whether it pulls the same way.

Measured at the head's outputs, where the loss begins: cheap, for nothing of the network is passed.
Where a method acts on features, all terms are measured at the pyramid's outputs instead, which
costs a backward pass of the head a term.

Level by level, only two sets of gradients exist at a time: one term's, and that of the detector's
own losses together. What is kept of them are dot products, read from the device all at once.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Gradients = list[Tensor | None]
"""One for each tensor that is differentiated by; none where a term does not depend on it."""


@dataclass(frozen=True)
class TermShare:
    """One term at one feature level, or at all of them (level none)."""

    term: str
    level: int | None
    norm: float
    """Of the term's gradient."""

    share: float
    """Its part of the sum of all terms' norms there, from 0 to 1."""

    cosine: float
    """With the gradient of the detector's own losses: 1 the same way, -1 against; 0 if one is 0."""


@dataclass(frozen=True)
class _Projection:
    """A gradient at one feature level, or at several, relative to that of the detector's losses."""

    squared_norm: float
    dot: float
    """Its dot product with the gradient of the detector's own losses."""

    @classmethod
    def over(cls, parts: Iterable["_Projection"]) -> "_Projection":
        """Of the gradients of all parts taken as one vector."""
        known = list(parts)
        return cls(sum(part.squared_norm for part in known), sum(part.dot for part in known))

    @property
    def norm(self) -> float:
        """The gradient's length."""
        return math.sqrt(self.squared_norm)


@dataclass(frozen=True)
class _Measurement:
    """Projections of every term and of the detector's own losses together, by feature level."""

    detector: list[_Projection]
    by_term: dict[str, list[_Projection]]

    @property
    def has_silent_term(self) -> bool:
        """Whether a term has no gradient at any level."""
        return any(_Projection.over(levels).norm == 0.0 for levels in self.by_term.values())


class LossShareMeter:
    """Looks at the losses of a step when it is asked to; a step that is not asked costs nothing."""

    def __init__(self) -> None:
        self.is_due = False
        self.shares: list[TermShare] = []

    def measure(
        self,
        own: dict[str, Any],
        taught: dict[str, Any],
        *,
        outputs: tuple[list[Tensor], ...],
        features: tuple[Tensor, ...],
    ) -> None:
        """Measure every term, if it is due. Only its gradients are computed, none is stored."""
        if not self.is_due:
            return
        self.is_due = False
        terms = {name: _total(value) for name, value in (own | taught).items() if "loss" in name}
        detector = torch.stack([terms[name] for name in own if name in terms]).sum()
        at_outputs = [[maps[level] for maps in outputs] for level in range(len(features))]
        measurement = _measure(terms, detector, levels=at_outputs)
        if measurement.has_silent_term:
            measurement = _measure(terms, detector, levels=[[maps] for maps in features])
        self.shares = list(_shares(measurement))


def _total(value: Tensor | list[Tensor]) -> Tensor:
    return sum(of_level.sum() for of_level in value) if isinstance(value, list) else value.sum()  # type: ignore[return-value]


def _measure(
    terms: dict[str, Tensor], detector: Tensor, *, levels: list[list[Tensor]]
) -> _Measurement:
    """Differentiate by the tensors of each level in turn, one term after the other."""
    losses = [detector, *terms.values()]
    products_L_T_2 = torch.stack([_products_at(losses, of_level) for of_level in levels])
    # The one time that the host waits for the device.
    by_level = products_L_T_2.tolist()
    detector_column, *columns = (
        [_Projection(*of_loss[position]) for of_loss in by_level] for position in range(len(losses))
    )
    return _Measurement(detector_column, dict(zip(terms, columns, strict=True)))


def _products_at(losses: list[Tensor], tensors: list[Tensor]) -> Tensor:
    """The product of each loss's gradient with itself and with the first loss's: (T, 2)."""
    reference = _gradients(losses[0], tensors)
    device = tensors[0].device
    return torch.stack(
        [_products(_gradients(loss, tensors), reference, device=device) for loss in losses]
    )


def _gradients(loss: Tensor, tensors: list[Tensor]) -> Gradients:
    if not loss.requires_grad:
        return [None] * len(tensors)
    return list(torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True))


def _products(gradients: Gradients, reference: Gradients, *, device: torch.device) -> Tensor:
    pairs = ((gradients, gradients), (gradients, reference))
    return torch.stack([_dot(first, second, device=device) for first, second in pairs])


def _dot(first: Gradients, second: Gradients, *, device: torch.device) -> Tensor:
    """The dot product in fp32, whatever the gradients are in.

    torch sums pairwise, so it is exact to 1e-6; `torch.dot` and `torch.norm` of a million numbers
    are not.
    """
    pairs = zip(first, second, strict=True)
    products = [
        left.to(torch.float32, copy=True).mul_(right).sum()
        for left, right in pairs
        if left is not None and right is not None
    ]
    return torch.stack(products).sum() if products else torch.zeros((), device=device)


def _shares(measurement: _Measurement) -> Iterator[TermShare]:
    """Of all levels together, then of each."""
    levels: list[int | None] = [None, *range(len(measurement.detector))]
    for level in levels:
        by_term = {
            name: _at(projections, level) for name, projections in measurement.by_term.items()
        }
        sum_of_norms = sum(projection.norm for projection in by_term.values())
        detector = _at(measurement.detector, level)
        for name, projection in by_term.items():
            yield TermShare(
                term=name,
                level=level,
                norm=projection.norm,
                share=projection.norm / sum_of_norms if sum_of_norms else 0.0,
                cosine=_cosine(projection, detector),
            )


def _at(projections: list[_Projection], level: int | None) -> _Projection:
    return _Projection.over(projections) if level is None else projections[level]


def _cosine(projection: _Projection, detector: _Projection) -> float:
    norms = projection.norm * detector.norm
    if not norms:
        return 0.0
    # Rounding alone can bring it beyond 1.
    return max(min(projection.dot / norms, 1.0), -1.0)
