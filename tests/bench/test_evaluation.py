"""An evaluation has the AP of mmdet's `single_gpu_test` and pycocotools, in batches of any size."""

from pathlib import Path

from tests.bench.evaluation import measure_evaluation


def test_both_sides_of_the_comparison_have_the_same_ap(tmp_path: Path) -> None:
    comparisons = measure_evaluation(rounds=1, folder=tmp_path, images=6)

    assert [len(comparison.tandem) for comparison in comparisons] == [1, 1]
    assert [comparison.target for comparison in comparisons] == [0.4, None]
