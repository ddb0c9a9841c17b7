"""The comparisons of `tests.bench.data` run, with a small pair of detectors."""

from pathlib import Path

from tests.bench.data import measure_data


def test_loading_and_waiting_are_compared_with_steps(tmp_path: Path) -> None:
    comparisons = measure_data(rounds=2, folder=tmp_path, image_size=(64, 64), depths=(18, 18))

    assert [len(comparison.tandem) for comparison in comparisons] == [2, 2]
    assert all(ratio > 0 for comparison in comparisons for ratio in comparison.ratios)
