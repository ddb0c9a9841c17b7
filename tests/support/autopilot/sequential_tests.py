"""Sequential tests of a mean with an unknown variance, on many simulated experiments at once.

N experiments of up to S pairs each, whose differences are independent with deviation 1.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from configs.seed_noise import t_quantile

Array = NDArray[np.float64]


def draw_differences(rng: np.random.Generator, *, mean: float, shape: tuple[int, int]) -> Array:
    """Differences, (N, S)."""
    return rng.normal(mean, 1.0, shape)


def t_statistics(differences_NS: Array) -> Array:
    """Student's t after each number of pairs, (N, S); NaN for the first pair."""
    pairs_S = np.arange(1, differences_NS.shape[1] + 1)
    sums_NS = differences_NS.cumsum(axis=1)
    squares_NS = (differences_NS**2).cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance_NS = (squares_NS - sums_NS**2 / pairs_S) / (pairs_S - 1)
        t_NS = sums_NS / np.sqrt(pairs_S * np.maximum(variance_NS, 1e-300))
    t_NS[:, 0] = np.nan
    return t_NS


def stop_by_spending(t_NS: Array, levels: Mapping[int, float]) -> NDArray[np.int64]:
    """The pairs at which each experiment is first claimed, (N,), by one t test at each look; 0 for
    never. `levels`: of each look, by its number of pairs."""
    claimed_NL = np.stack(
        [
            t_NS[:, pairs - 1] > t_quantile(1.0 - level, pairs - 1)
            for pairs, level in levels.items()
        ],
        axis=1,
    )
    return _first(claimed_NL, tuple(levels))


def stop_by_t_mixture(
    t_NS: Array, *, level: float, prior_variance: float = 1.0
) -> NDArray[np.int64]:
    """As `stop_by_spending`, by an e-process that is examined after every pair from the second on.

    It is the Bayes factor of a normal prior on mean / deviation, with the right Haar prior on the
    deviation (Lai 1976; Wang and Ramdas 2024), a martingale without a gain. Its symmetry makes the
    one-sided error half of the two-sided one, so its bound is 1 / (2 `level`).
    """
    pairs_S = np.arange(1, t_NS.shape[1] + 1, dtype=np.float64)
    freedom_S = np.maximum(pairs_S - 1.0, 1.0)
    growth_S = 1.0 + pairs_S * prior_variance
    ratio_NS = (1.0 + t_NS**2 / freedom_S) / (1.0 + t_NS**2 / (freedom_S * growth_S))
    log_e_NS = 0.5 * pairs_S * np.log(ratio_NS) - 0.5 * np.log(growth_S)
    crossed_NS = log_e_NS[:, 1:] >= -math.log(2.0 * level)
    first_N = _first(crossed_NS, tuple(range(2, t_NS.shape[1] + 1)))
    sign_N = np.take_along_axis(t_NS, np.maximum(first_N - 1, 0)[:, None], axis=1)[:, 0]
    return np.where(sign_N > 0.0, first_N, 0)


def _first(claimed_NL: NDArray[np.bool_], pairs_L: tuple[int, ...]) -> NDArray[np.int64]:
    index_N = claimed_NL.argmax(axis=1)
    return np.where(claimed_NL.any(axis=1), np.asarray(pairs_L)[index_N], 0)
