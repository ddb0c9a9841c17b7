"""From looks at the losses' gradients to one sentence."""

import pytest

from service.adapters.clock import FixedClock
from service.domain.loss_budget import loss_shares_from_points
from service.domain.runs import MetricPoint

NOW = FixedClock().now()


def looks(
    step: int = 100, *, place: str = "all", **terms: tuple[float, float]
) -> list[MetricPoint]:
    """Points of one look: share and cosine by term."""
    return [
        MetricPoint(f"loss_share/{term}/{place}/{what}", step, value, NOW)
        for term, pair in terms.items()
        for what, value in zip(("share", "cosine"), pair, strict=True)
    ]


@pytest.mark.parametrize(
    ("share", "cosine", "verdict"),
    [
        (0.01, 0.5, "Distillation is 1 % of the gradient: it does almost nothing"),
        (0.4, 0.5, "Distillation is 40 % of the gradient: it takes part"),
        (0.9, 0.5, "Distillation is 90 % of the gradient: it does almost everything"),
        (0.4, -0.5, "40 % of the gradient, and distill_cls pulls against the labels"),
    ],
)
def test_the_verdict_follows_share_and_direction(share: float, cosine: float, verdict: str) -> None:
    found = loss_shares_from_points(looks(cls=(1 - share, 1.0), distill_cls=(share, cosine)))

    assert verdict in found.verdict


def test_what_is_so_now_counts_and_not_the_beginning() -> None:
    early = [p for step in (100, 200, 300) for p in looks(step, distill_cls=(0.9, 0.0))]

    found = loss_shares_from_points([*early, *looks(400, distill_cls=(0.3, 0.0))])

    assert found.samples == 4
    assert found.step == 400
    assert [part.share for part in found.parts] == [0.3]


def test_terms_of_the_teacher_are_told_from_the_detectors_own() -> None:
    found = loss_shares_from_points(looks(cls=(0.5, 1.0), pkd=(0.3, 0.0), bbox_rf=(0.2, 1.0)))

    assert {part.term: part.is_distillation for part in found.parts} == {
        "cls": False,
        "pkd": True,
        "bbox_rf": False,
    }


def test_other_metrics_are_left_aside_and_nothing_is_said_of_nothing() -> None:
    found = loss_shares_from_points([MetricPoint("train/loss", 10, 1.0, NOW)])

    assert found.parts == ()
    assert "No look was taken yet" in found.verdict
