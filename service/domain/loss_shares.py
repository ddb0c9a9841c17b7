"""Summarizes the gradient shares of a run's loss terms, as its worker sampled them; no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from configs.metric_keys import LOSS_SHARE_PREFIX, is_of_distillation
from service.domain.runs import MetricPoint

_ALL_LEVELS = "all"
_RECENT_FRACTION = 0.25
"""Only the last quarter of the samples counts: at the beginning all losses are large."""

_MIN_SHARE = 0.05
_MAX_SHARE = 0.8
_MIN_COSINE = -0.2


@dataclass(frozen=True)
class LevelLossShare:
    """One loss term's share of the gradient, at one feature level or over all of them."""

    term: str
    level: str
    """`all`, or `p3` (stride 8) to `p7` (stride 128)."""

    share: float
    cosine: float
    """With the gradient of the detector's own losses, from -1 to 1."""

    is_distillation: bool


@dataclass(frozen=True)
class LossShares:
    """The mean shares of the recent samples, and a verdict in one sentence."""

    samples: int
    """All of the run, not only the recent ones."""

    step: int | None
    """Of the last sample."""

    parts: tuple[LevelLossShare, ...]
    verdict: str


def loss_shares_from_points(points: Iterable[MetricPoint]) -> LossShares:
    """The loss shares of a run, from those of its metrics that begin with `loss_share/`."""
    shares = [point for point in points if point.key.startswith(LOSS_SHARE_PREFIX)]
    steps = sorted({point.step for point in shares})
    recent = set(steps[-max(1, round(len(steps) * _RECENT_FRACTION)) :])
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for point in shares:
        if point.step in recent:
            _, term, level, quantity = point.key.split("/")
            values.setdefault((term, level), {}).setdefault(quantity, []).append(point.value)
    parts = tuple(
        LevelLossShare(
            term,
            level,
            share=fmean(by_quantity["share"]),
            cosine=fmean(by_quantity["cosine"]),
            is_distillation=is_of_distillation(term),
        )
        for (term, level), by_quantity in sorted(values.items())
    )
    return LossShares(len(steps), steps[-1] if steps else None, parts, _verdict(parts))


def _verdict(parts: Sequence[LevelLossShare]) -> str:
    distillation = [part for part in parts if part.is_distillation and part.level == _ALL_LEVELS]
    if not distillation:
        return "There is no sample yet: a distilled run takes one every loss_shares_every_steps."
    share = sum(part.share for part in distillation)
    summary = f"Distillation is {100 * share:.0f} % of the gradient"
    if share < _MIN_SHARE:
        return f"{summary}: it has almost no effect. Raise its weights."
    if share > _MAX_SHARE:
        return f"{summary}: the labels have almost no effect. Lower its weights."
    opposing = [part.term for part in distillation if part.cosine < _MIN_COSINE]
    if opposing:
        return f"{summary}, and {', '.join(opposing)} pulls against the labels."
    return f"{summary}: both it and the labels have an effect."
