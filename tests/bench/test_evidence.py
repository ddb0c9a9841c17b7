"""The table of docs/evidence.md: Holm's correction, intervals and verdicts."""

import pytest

from configs.protocol.comparison import SeedGain
from tests.bench.evidence import Row, correct_by_holm, format_table


def make_row(name: str, *gains: float) -> Row:
    """A row whose runs have these gains in points, over baselines of 40.0."""
    return Row(
        name,
        tuple(
            SeedGain(
                seed=seed,
                run=f"r{seed:012d}",
                baseline=f"r{seed + 1000:012d}",
                run_map=0.4 + gain / 100.0,
                baseline_map=0.4,
                gain=gain / 100.0,
            )
            for seed, gain in enumerate(gains)
        ),
    )


def test_holm_multiplies_the_smallest_by_their_number_and_never_decreases() -> None:
    """By hand: 0.01 x 3, 0.02 x 2, and 0.03 x 1, which is raised to the one before it."""
    assert correct_by_holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])


def test_a_correction_is_at_most_1() -> None:
    assert correct_by_holm([0.9, 0.6]) == [1.0, 1.0]


def test_the_table_says_what_helps_what_hurts_and_what_it_cannot_tell() -> None:
    rows = [
        make_row("better", 3.0, 3.2, 2.9, 3.1, 3.0),
        make_row("worse", -2.0, -2.1, -1.9, -2.2, -2.0),
        make_row("unclear", 1.0, -1.0, 0.5, -0.2, 2.0),
    ]

    lines = format_table(rows).splitlines()[2:]

    assert [line.split(" | ")[-1].rstrip(" |") for line in lines] == [
        "helps",
        "hurts",
        "cannot tell",
    ]
    assert lines[0].startswith("| better | 43.0 | 40.0 | +3.0 [+2.9, +3.2] | +3.0, +3.2, ")


def test_a_difference_that_is_significant_alone_may_not_be_among_many() -> None:
    barely = make_row("barely", 1.0, 0.2, 1.5, 0.9, 0.4)
    assert barely.probability < 0.05

    assert "helps" in format_table([barely])
    assert "cannot tell" in format_table([barely] + [make_row("other", 1.0, -1.0)] * 9)
