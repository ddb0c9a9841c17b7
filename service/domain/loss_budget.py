"""What each term of a run's loss did: from the looks that its worker took, to one sentence."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from configs.protocol.names import DISTILLATION_TERMS
from service.domain.runs import MetricPoint

_PREFIX = "loss_share/"
_ALL = "all"
_RECENT = 0.25
"""The last quarter of the looks says what is so now; at the beginning all losses are large."""

_NOTHING = 0.05
_EVERYTHING = 0.8
_AGAINST = -0.2


@dataclass(frozen=True)
class LevelLossShare:
    """One term's part of the gradient at one place: a feature level, or all of them."""

    term: str
    level: str
    """`all`, or `p3` (stride 8) to `p7` (stride 128)."""

    share: float
    cosine: float
    """With the gradient of the detector's own losses, from -1 to 1."""

    is_distillation: bool


@dataclass(frozen=True)
class LossShares:
    """What every term did lately, and what it comes to."""

    samples: int
    step: int | None
    """Of the last look."""

    parts: tuple[LevelLossShare, ...]
    verdict: str


def loss_shares_from_points(points: Iterable[MetricPoint]) -> LossShares:
    """The budget of a run from its metrics; others than `loss_share/` are left aside."""
    ours = [point for point in points if point.key.startswith(_PREFIX)]
    steps = sorted({point.step for point in ours})
    recent = set(steps[-max(1, round(len(steps) * _RECENT)) :])
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for point in ours:
        if point.step in recent:
            _, term, place, what = point.key.split("/")
            values.setdefault((term, place), {}).setdefault(what, []).append(point.value)
    parts = tuple(
        LevelLossShare(
            term,
            place,
            share=fmean(said["share"]),
            cosine=fmean(said["cosine"]),
            is_distillation=term in DISTILLATION_TERMS,
        )
        for (term, place), said in sorted(values.items())
    )
    return LossShares(len(steps), steps[-1] if steps else None, parts, _verdict(parts))


def _verdict(parts: Sequence[LevelLossShare]) -> str:
    taught = [part for part in parts if part.is_distillation and part.level == _ALL]
    if not taught:
        return "No look was taken yet: a distilled run takes one every loss_shares_every_steps."
    share = sum(part.share for part in taught)
    said = f"Distillation is {100 * share:.0f} % of the gradient"
    if share < _NOTHING:
        return f"{said}: it does almost nothing. Raise its weights."
    if share > _EVERYTHING:
        return f"{said}: it does almost everything, and labels hardly count. Lower its weights."
    against = [part.term for part in taught if part.cosine < _AGAINST]
    if against:
        return f"{said}, and {', '.join(against)} pulls against the labels."
    return f"{said}: it takes part."
