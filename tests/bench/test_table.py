"""Ratios are those of rounds, and both sides take turns."""

import json
from pathlib import Path

import pytest

from tests.bench.table import Comparison, format_markdown, measure_alternately, write_report


def test_a_ratio_is_the_median_of_the_rounds_and_not_a_ratio_of_medians() -> None:
    comparison = Comparison("loading", [1.0, 20.0, 3.0], [2.0, 100.0, 4.0], target=0.5)

    assert comparison.ratios == [0.5, 0.2, 0.75]
    assert comparison.ratio == 0.5
    assert comparison.meets_target is True


def test_both_sides_of_a_comparison_need_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="loading has 1 and 2 durations"):
        Comparison("loading", [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="at least one"):
        Comparison("loading", [], [])


def test_both_sides_take_turns_and_the_warm_up_is_not_counted() -> None:
    calls: list[str] = []

    tandem, reference = measure_alternately(
        lambda: calls.append("tandem"), lambda: calls.append("reference"), rounds=2, warm_up=1
    )

    assert len(tandem) == len(reference) == 2
    assert calls == ["reference", "tandem", "tandem", "reference", "reference", "tandem"]


def test_a_report_is_a_table_and_a_document_with_every_round(tmp_path: Path) -> None:
    met = Comparison("loading", [0.001, 0.003], [0.002, 0.004], target=0.7)
    missed = Comparison("evaluation", [2.0], [4.0], target=0.4)
    reported = Comparison("collating", [2e-5], [4e-5])

    write_report([met, missed, reported], tmp_path / "build" / "table")

    table = (tmp_path / "build" / "table.md").read_text()
    assert table == format_markdown([met, missed, reported])
    assert table.splitlines()[2:] == [
        "| loading | 2 ms | 3 ms | 0.625 | 0.500 to 0.750 | 0.7, met |",
        "| evaluation | 2 s | 4 s | 0.500 | 0.500 to 0.500 | 0.4, missed |",
        "| collating | 20 us | 40 us | 0.500 | 0.500 to 0.500 |  |",
    ]
    document = json.loads((tmp_path / "build" / "table.json").read_text())
    assert document[0]["tandem"] == [0.001, 0.003]
    assert [entry["meets_target"] for entry in document] == [True, False, None]
