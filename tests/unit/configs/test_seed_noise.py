"""Student's t and the noise floor, compared with scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from configs.seed_noise import noise_floor, t_quantile


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3, 4.7, 10, 30, 299, 5000, 1e6])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.9995])
def test_the_quantile_is_scipys(probability: float, freedom: float) -> None:
    quantile = t_quantile(probability, freedom)

    assert quantile == pytest.approx(stats.t.ppf(probability, freedom), rel=1e-8)


@pytest.mark.parametrize(("probability", "freedom"), [(0.5, 3), (1.0, 3), (0.975, 0.0)])
def test_a_quantile_that_has_no_value_is_refused(probability: float, freedom: float) -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_quantile(probability, freedom)


def test_the_deviation_is_pooled_over_groups_and_single_runs_say_nothing() -> None:
    noise = noise_floor([[0.30, 0.32, 0.31], [0.50, 0.54], [0.9]])

    assert noise is not None
    assert (noise.runs, noise.freedom) == (5, 3)
    assert noise.deviation == pytest.approx(math.sqrt((2 * 0.01**2 + 2 * 0.02**2) / 3))
    t = stats.t.ppf(0.975, 3)
    assert noise.floor == pytest.approx(t * noise.deviation * math.sqrt(2))


@pytest.mark.parametrize("groups", [[], [[0.3]], [[0.3], [0.4]]], ids=["none", "one", "singles"])
def test_without_two_equal_runs_there_is_no_floor(groups: list[list[float]]) -> None:
    assert noise_floor(groups) is None


def test_equal_runs_exceed_the_floor_in_one_case_of_twenty() -> None:
    runs = np.random.default_rng(0).normal(0.4, 0.01, (4000, 5))

    floors = [noise_floor([group[:3]]) for group in runs.tolist()]

    exceeding = [abs(run[3] - run[4]) > n.floor for run, n in zip(runs, floors, strict=True) if n]
    assert 0.04 < np.mean(exceeding) < 0.06
