"""What each term of the loss does: its share of the gradient, and whether it pulls the same way.

Measured at the head's outputs, where the loss begins: cheap, for nothing of the network is passed.
Where a method acts on features, all terms are measured at the pyramid's outputs instead, which
costs a backward pass of the head a term.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Gradients = list[Tensor]
"""One flat gradient a feature level."""


@dataclass(frozen=True)
class Share:
    """One term at one feature level, or at all of them (level none)."""

    term: str
    level: int | None
    norm: float
    """Of the term's gradient."""

    share: float
    """Its part of the sum of all terms' norms there, from 0 to 1."""

    cosine: float
    """With the gradient of the detector's own losses: 1 the same way, -1 against; 0 if one is 0."""


class LossBudget:
    """Looks at the losses of a step when it is asked to; a step that is not asked costs nothing."""

    def __init__(self) -> None:
        self.is_due = False
        self.shares: list[Share] = []

    def look(
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
        at_outputs = [[maps[level] for maps in outputs] for level in range(len(features))]
        terms = {name: _total(value) for name, value in (own | taught).items() if "loss" in name}
        gradients = {name: _gradients(value, at_outputs) for name, value in terms.items()}
        if any(_norm(torch.cat(of_term)) == 0.0 for of_term in gradients.values()):
            at_features = [[maps] for maps in features]
            gradients = {name: _gradients(value, at_features) for name, value in terms.items()}
        self.shares = _shares(gradients, own=[name for name in terms if name in own])


def _total(value: Tensor | list[Tensor]) -> Tensor:
    return sum(of_level.sum() for of_level in value) if isinstance(value, list) else value.sum()  # type: ignore[return-value]


def _gradients(term: Tensor, places: list[list[Tensor]]) -> Gradients:
    flat = [tensor for of_level in places for tensor in of_level]
    if not term.requires_grad:
        return [torch.cat([torch.zeros_like(t).flatten() for t in of_level]) for of_level in places]
    found = iter(torch.autograd.grad(term, flat, retain_graph=True, allow_unused=True))
    by_level = []
    for of_level in places:
        parts = [(next(found), tensor) for tensor in of_level]
        by_level.append(
            torch.cat(
                [(torch.zeros_like(t) if g is None else g).float().flatten() for g, t in parts]
            )
        )
    return by_level


def _shares(gradients: dict[str, Gradients], *, own: list[str]) -> list[Share]:
    num_levels = len(next(iter(gradients.values())))
    shares = []
    for level in (None, *range(num_levels)):
        here = {
            name: torch.cat(of_term) if level is None else of_term[level]
            for name, of_term in gradients.items()
        }
        detector = torch.stack([here[name] for name in own]).sum(dim=0)
        whole = sum(_norm(gradient) for gradient in here.values())
        for name, gradient in here.items():
            norm = _norm(gradient)
            shares.append(
                Share(
                    name, level, norm, norm / whole if whole else 0.0, _cosine(gradient, detector)
                )
            )
    return shares


def _norm(gradient: Tensor) -> float:
    return float(gradient.norm())


def _cosine(first: Tensor, second: Tensor) -> float:
    norms = _norm(first) * _norm(second)
    return float(torch.dot(first, second)) / norms if norms else 0.0
