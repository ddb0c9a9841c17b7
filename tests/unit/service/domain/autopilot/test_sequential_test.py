"""The sequential test: no more false claims than it states, and more power than its alternative."""

import numpy as np
import pytest

from service.domain.autopilot.sequential_test import (
    ERROR_RATE,
    LOOK_SHARES,
    MAX_PAIRS,
    claim_gains,
    lower_bound,
    next_look,
    simultaneous_level,
    upper_bound,
)
from tests.support.autopilot.sequential_tests import (
    draw_differences,
    stop_by_spending,
    stop_by_t_mixture,
    t_statistics,
)
from tests.support.autopilot.statistics import rate_bounds

EXPERIMENTS = 40_000


def simulate(mean: float, *, seed: int) -> "np.typing.NDArray[np.float64]":
    rng = np.random.default_rng(seed)
    return t_statistics(draw_differences(rng, mean=mean, shape=(EXPERIMENTS, MAX_PAIRS)))


def test_a_bound_is_that_of_a_t_interval() -> None:
    gains = [0.01, 0.02, 0.03]

    # 2.920 is the 95 % quantile of Student's t with two degrees of freedom.
    assert lower_bound(gains, level=0.05) == pytest.approx(0.02 - 2.920 * 0.01 / 3**0.5, abs=1e-5)
    assert upper_bound(gains, level=0.05) == pytest.approx(0.02 + 2.920 * 0.01 / 3**0.5, abs=1e-5)


def test_all_looks_and_arms_together_spend_the_error_rate() -> None:
    spent = sum(2 * simultaneous_level(pairs, arms=2) for pairs in LOOK_SHARES)

    assert spent == pytest.approx(ERROR_RATE)
    assert next_look(0) == min(LOOK_SHARES)
    assert next_look(MAX_PAIRS) is None


def test_without_a_gain_claims_are_as_rare_as_stated() -> None:
    levels = {pairs: simultaneous_level(pairs, arms=1) for pairs in LOOK_SHARES}

    claims = int((stop_by_spending(simulate(0.0, seed=1), levels) > 0).sum())

    low, high = rate_bounds(claims, EXPERIMENTS, level=0.999)
    assert low < ERROR_RATE
    assert high < 1.1 * ERROR_RATE


def test_a_t_test_at_every_look_would_claim_too_often() -> None:
    levels = dict.fromkeys(LOOK_SHARES, ERROR_RATE)

    claims = int((stop_by_spending(simulate(0.0, seed=1), levels) > 0).sum())

    assert rate_bounds(claims, EXPERIMENTS, level=0.999)[0] > 2.0 * ERROR_RATE


@pytest.mark.parametrize("mean", [1.0, 1.5, 2.0])
def test_it_claims_more_gains_than_an_e_process_of_the_same_error(mean: float) -> None:
    levels = {pairs: simultaneous_level(pairs, arms=1) for pairs in LOOK_SHARES}
    t_NS = simulate(mean, seed=2)

    spending, mixture = stop_by_spending(t_NS, levels), stop_by_t_mixture(t_NS, level=ERROR_RATE)

    assert (spending > 0).mean() > (mixture > 0).mean()


def test_a_claimed_arm_leaves_its_share_to_the_other() -> None:
    # Alone, the second needs the level of two arms; after the first claim, that of one.
    pairs = 6
    strict, loose = (simultaneous_level(pairs, arms=arms) for arms in (2, 1))
    strong = [0.05 + 0.001 * step for step in range(pairs)]
    weak = _shift_between(strict, loose, pairs=pairs)

    assert claim_gains({"weak": weak}, claimed=(), arms=2) == frozenset()
    assert claim_gains({"strong": strong, "weak": weak}, claimed=(), arms=2) == {"strong", "weak"}
    assert claim_gains({"weak": weak}, claimed={"strong"}, arms=2) == {"strong", "weak"}


def test_arms_of_a_look_need_equally_many_pairs() -> None:
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        claim_gains({"a": [0.1] * 3, "b": [0.1] * 4}, claimed=(), arms=2)


def _shift_between(strict: float, loose: float, *, pairs: int) -> list[float]:
    """Gains whose bound is below 0 at the strict level and above it at the loose one."""
    spread = [0.001 * step for step in range(pairs)]
    shift = (lower_bound(spread, level=strict) + lower_bound(spread, level=loose)) / 2.0
    return [gain - shift for gain in spread]
