"""Sampled gradient shares of the losses, and their verdict."""

import pytest

from service.adapters.clock import FixedClock
from service.domain.loss_shares import loss_shares_from_points
from service.domain.runs import MetricPoint

NOW = FixedClock().now()


def make_sample(
    step: int = 100, *, level: str = "all", **terms: tuple[float, float]
) -> list[MetricPoint]:
    """The points of one sample: share and cosine by term."""
    return [
        MetricPoint(f"loss_share/{term}/{level}/{quantity}", step, value, NOW)
        for term, pair in terms.items()
        for quantity, value in zip(("share", "cosine"), pair, strict=True)
    ]


@pytest.mark.parametrize(
    ("share", "cosine", "verdict"),
    [
        (0.01, 0.5, "Distillation is 1 % of the gradient: it has almost no effect"),
        (0.4, 0.5, "Distillation is 40 % of the gradient: both it and the labels have an effect"),
        (0.9, 0.5, "Distillation is 90 % of the gradient: the labels have almost no effect"),
        (0.4, -0.5, "40 % of the gradient, and distill_cls pulls against the labels"),
    ],
)
def test_the_verdict_follows_share_and_direction(share: float, cosine: float, verdict: str) -> None:
    shares = loss_shares_from_points(make_sample(cls=(1 - share, 1.0), distill_cls=(share, cosine)))

    assert verdict in shares.verdict


def test_what_is_so_now_counts_and_not_the_beginning() -> None:
    early = [p for step in (100, 200, 300) for p in make_sample(step, distill_cls=(0.9, 0.0))]

    shares = loss_shares_from_points([*early, *make_sample(400, distill_cls=(0.3, 0.0))])

    assert shares.samples == 4
    assert shares.step == 400
    assert [part.share for part in shares.parts] == [0.3]


def test_terms_of_the_teacher_are_told_from_the_detectors_own() -> None:
    shares = loss_shares_from_points(
        make_sample(cls=(0.5, 1.0), pkd=(0.3, 0.0), bbox_rf=(0.2, 1.0))
    )

    assert {part.term: part.is_distillation for part in shares.parts} == {
        "cls": False,
        "pkd": True,
        "bbox_rf": False,
    }


def test_other_metrics_are_left_aside_and_nothing_is_said_of_nothing() -> None:
    shares = loss_shares_from_points([MetricPoint("train/loss", 10, 1.0, NOW)])

    assert shares.parts == ()
    assert "There is no sample yet" in shares.verdict
