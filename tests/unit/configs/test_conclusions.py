"""Conclusions of comparisons: a single pair has no verdict."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.conclusions import conclude, format_points
from configs.protocol.comparison import Comparison, Difference, Verdict

RUNS = tuple(f"r{number:012d}" for number in range(3))
BASELINES = tuple(f"r{number:012d}" for number in range(3, 6))


def make_document(*, pairs: int = 1, verdict: Verdict = "helps", **changes: Any) -> dict[str, Any]:
    low, high = {"helps": (0.011, 0.035), "hurts": (-0.035, -0.011)}.get(verdict, (-0.01, 0.056))
    part = {"run": 0.3, "baseline": 0.277, "difference": (low + high) / 2, "low": low, "high": high}
    fields = {
        "runs": RUNS[:pairs],
        "baselines": BASELINES[:pairs],
        "parts": {"bbox_mAP": part},
        "verdict": verdict,
        "basis": "The 500 validation images were resampled, the same for both models.",
    }
    return fields | changes


@pytest.mark.parametrize("verdict", ["helps", "hurts"])
def test_a_verdict_of_one_pair_without_a_noise_floor_cannot_be_made(verdict: Verdict) -> None:
    with pytest.raises(ValidationError, match="needs the variation over seeds"):
        Comparison(**make_document(verdict=verdict, seed_spread="unknown"))


@pytest.mark.parametrize(("pairs", "spread"), [(1, "pairs"), (2, "unknown"), (3, "noise_floor")])
def test_the_spread_fits_the_number_of_pairs(pairs: int, spread: str) -> None:
    with pytest.raises(ValidationError, match="number of pairs"):
        Comparison(**make_document(pairs=pairs, verdict="cannot_tell", seed_spread=spread))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (
            make_document(pairs=3, seed_spread="pairs", gap_closed=0.41),
            "Distillation helps: +2.3 mAP [+1.1, +3.5] over 3 seeds; closes 41 % of the gap to "
            "its teacher.",
        ),
        (
            make_document(pairs=3, seed_spread="pairs", control="random_teacher"),
            "Distillation from an untrained teacher helps: +2.3 mAP [+1.1, +3.5] over 3 seeds.",
        ),
        (
            make_document(pairs=2, seed_spread="pairs", verdict="hurts"),
            "Distillation hurts: -2.3 mAP [-3.5, -1.1] over 2 seeds.",
        ),
        (
            make_document(seed_spread="noise_floor", gap_closed=1.2),
            "Distillation helps: +2.3 mAP [+1.1, +3.5] with one seed and the known noise floor; "
            "the student reaches its teacher.",
        ),
        (
            make_document(pairs=2, seed_spread="pairs", verdict="cannot_tell"),
            "Cannot tell whether distillation helps: +2.3 mAP [-1.0, +5.6] over 2 seeds.",
        ),
        (
            make_document(seed_spread="unknown", verdict="cannot_tell", images=500),
            "One pair measured: +2.3 mAP [-1.0, +5.6] on these 500 images for these two models. "
            "Whether distillation helps is not known from one seed: `tandem repeat r000000000000 "
            "--seeds 3` trains more pairs.",
        ),
    ],
    ids=["helps", "a control", "hurts", "noise floor", "cannot tell", "one pair"],
)
def test_each_kind_of_comparison_has_its_sentence(document: dict[str, Any], sentence: str) -> None:
    assert conclude(Comparison(**document)) == sentence


def test_an_unknown_interval_is_stated() -> None:
    part = Difference(run=0.3, baseline=0.3, difference=-0.0001)
    document = make_document(pairs=2, seed_spread="pairs", verdict="cannot_tell")

    comparison = Comparison(**(document | {"parts": {"bbox_mAP": part}}))

    assert "helps: 0.0 mAP (interval unknown) over 2 seeds" in conclude(comparison)


@pytest.mark.parametrize(
    ("difference", "text"), [(0.0123, "+1.2"), (-0.02, "-2.0"), (-0.0004, "0.0"), (0.0, "0.0")]
)
def test_points_have_a_sign_unless_they_are_zero(difference: float, text: str) -> None:
    assert format_points(difference) == text
