"""What packs save, as `make bench-packs` measures it: close to one teacher and K students."""

from pathlib import Path

import pytest

from tests.bench.packs import Bench, ideal


@pytest.mark.slow  # minutes, and nothing else may run beside it
@pytest.mark.timeout(1200)
def test_four_students_of_digits_cost_one_teacher_and_four_students(tmp_path: Path) -> None:
    bench = Bench("digits", 4, tmp_path)
    bench.round((4,))

    rounds = [bench.round((4,)) for _ in range(5)]

    ratios = sorted(one.packed_s[4] / one.separate_s[4] for one in rounds)
    assert ratios[2] <= 1.15 * ideal(rounds, 4)
