"""The time that packs save, as `make bench-packs` measures it, is close to the expected one."""

from pathlib import Path

import pytest

from tests.bench.packs import PackBenchmark, compute_ideal_s


@pytest.mark.slow  # minutes, and nothing else may run beside it
@pytest.mark.timeout(1200)
def test_four_students_of_digits_cost_one_teacher_and_four_students(tmp_path: Path) -> None:
    benchmark = PackBenchmark("digits", 4, tmp_path)
    benchmark.round((4,))

    rounds = [benchmark.round((4,)) for _ in range(5)]

    ratios = sorted(round_.packed_s[4] / round_.separate_s[4] for round_ in rounds)
    assert ratios[2] <= 1.15 * compute_ideal_s(rounds, 4)
