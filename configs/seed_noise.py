"""The noise floor: how much results vary over seeds.

Service and workers share it. It computes Student's t itself, because the service's environment has
no scipy.
"""

import functools
import math
from collections.abc import Sequence

from configs.protocol.comparison import NoiseFloor

CONFIDENCE = 0.95
"""Confidence level of the noise floor and of all intervals."""

TWO_SIDED = (1.0 + CONFIDENCE) / 2.0
"""Probability of the upper quantile of a two-sided interval."""

_MIN_VALUE = 1e-300
_TOLERANCE = 1e-15
_MAX_ITERATIONS = 10_000


def noise_floor(groups: Sequence[Sequence[float]]) -> NoiseFloor | None:
    """The variation between runs that differ in their seed alone. None if no group has two runs.

    Each group holds the mAPs of runs of equal specs. Their variances are pooled, weighted by their
    degrees of freedom. The difference of two runs has the deviation of one run times sqrt(2).
    """
    repeated = [group for group in groups if len(group) > 1]
    runs = sum(map(len, repeated))
    freedom = runs - len(repeated)
    if freedom < 1:
        return None
    deviation = math.sqrt(sum(map(_sum_of_squares, repeated)) / freedom)
    floor = t_quantile(TWO_SIDED, freedom) * deviation * math.sqrt(2.0)
    return NoiseFloor(runs=runs, freedom=freedom, deviation=deviation, floor=floor)


@functools.lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: float) -> float:
    """The quantile of Student's t distribution for a probability above 0.5.

    P(|T| > t) is the regularized incomplete beta function I_x(freedom / 2, 1 / 2) at
    x = freedom / (freedom + t^2). It grows with x, so x is found by bisection.
    """
    if not (0.5 < probability < 1.0 and freedom > 0.0):
        raise ValueError(
            f"the probability must be between 0.5 and 1, got {probability}, and the degrees of "
            f"freedom above 0, got {freedom}"
        )
    two_sided = 2.0 * (1.0 - probability)
    low, high = 0.0, 1.0
    while high - low > _TOLERANCE * high:
        x = (low + high) / 2.0
        if _incomplete_beta(x, freedom / 2.0, 0.5) < two_sided:
            low = x
        else:
            high = x
    return math.sqrt(freedom * (1.0 - high) / high)


def _sum_of_squares(group: Sequence[float]) -> float:
    mean = math.fsum(group) / len(group)
    return math.fsum((value - mean) ** 2 for value in group)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b).

    Uses the symmetry I_x(a, b) = 1 - I_(1-x)(b, a) where the continued fraction converges slowly.
    """
    if x <= 0.0 or x >= 1.0:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _incomplete_beta(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) * _continued_fraction(x, a, b) / a


def _continued_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b) (Abramowitz and Stegun 26.5.8), by Lentz's method."""
    c, d = 1.0, 1.0 / _clamp_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _MAX_ITERATIONS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        previous = value
        for term in (even, odd):
            d = 1.0 / _clamp_from_zero(1.0 + term * d)
            c = _clamp_from_zero(1.0 + term / c)
            value *= c * d
        if abs(value - previous) <= _TOLERANCE * abs(value):
            break
    return value


def _clamp_from_zero(value: float) -> float:
    return value if abs(value) > _MIN_VALUE else _MIN_VALUE
