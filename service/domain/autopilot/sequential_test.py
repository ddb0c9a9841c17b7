"""Whether arms gain over their baseline, examined again and again as seeds are added.

The data are the differences of G distilled arms from the baseline, paired by seed. Under the
assumption that an arm's differences are independent and normal, one look is Student's t test with
an unknown variance. `ERROR_RATE` is shared among the looks and, by Holm's method, among the arms:
by the union bound, the probability that any arm without a gain is claimed at any look is at most
`ERROR_RATE`, however the looks and the arms depend on each other. Looks that do not take place
spend nothing, so stopping early, dropping an arm and continuing after a break are free to follow
any rule.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence

from configs.seed_noise import CONFIDENCE, t_quantile

ERROR_RATE = 1.0 - CONFIDENCE
"""The probability of a false claim, over all looks and arms."""

LOOK_SHARES: Mapping[int, float] = {3: 0.2, 4: 0.2, 6: 0.2, 8: 0.2, 12: 0.2}
"""The share of `ERROR_RATE` that each look spends, by its number of pairs."""

MAX_PAIRS = max(LOOK_SHARES)


def lower_bound(gains: Sequence[float], *, level: float) -> float:
    """The bound that the true mean is below with probability `level`, by Student's t."""
    spread = statistics.stdev(gains) / math.sqrt(len(gains))
    return statistics.fmean(gains) - t_quantile(1.0 - level, len(gains) - 1) * spread


def upper_bound(gains: Sequence[float], *, level: float) -> float:
    """The bound that the true mean is above with probability `level`, by Student's t."""
    return -lower_bound([-gain for gain in gains], level=level)


def can_be_claimed(gains: Sequence[float], *, arms: int, level: float) -> bool:
    """Whether the last look would claim an arm whose mean is as high as `upper_bound` allows, with
    the deviation of the gains so far."""
    last = simultaneous_level(MAX_PAIRS, arms=arms)
    spread = statistics.stdev(gains) / math.sqrt(MAX_PAIRS)
    margin = t_quantile(1.0 - last, MAX_PAIRS - 1) * spread
    return upper_bound(gains, level=level) > margin


def half_power_gain(pairs: int, *, arms: int) -> float:
    """The gain that a look claims in about half of all cases, in deviations of a difference."""
    level = simultaneous_level(pairs, arms=arms)
    return t_quantile(1.0 - level, pairs - 1) / math.sqrt(pairs)


def simultaneous_level(pairs: int, *, arms: int) -> float:
    """The level of an arm's bound at the look with so many pairs, so that the bounds of all arms at
    all looks hold together with probability 1 - `ERROR_RATE`."""
    return ERROR_RATE * LOOK_SHARES[pairs] / arms


def claim_gains(
    gains: Mapping[str, Sequence[float]], *, claimed: Collection[str], arms: int
) -> frozenset[str]:
    """The arms whose gain can be claimed at this look, with those of earlier looks.

    `gains` has the same number of pairs for each arm that is still examined, and `arms` counts all
    that were in the test at its beginning.
    """
    result = frozenset(claimed)
    while True:
        level = simultaneous_level(_pairs(gains), arms=max(1, arms - len(result)))
        new = {
            arm
            for arm, values in gains.items()
            if arm not in result and lower_bound(values, level=level) > 0.0
        }
        if not new:
            return result
        result |= new


def next_look(pairs: int) -> int | None:
    """The pairs of the first look with more than these. None after the last one."""
    return min((size for size in LOOK_SHARES if size > pairs), default=None)


def _pairs(gains: Mapping[str, Sequence[float]]) -> int:
    sizes = {len(values) for values in gains.values()}
    if len(sizes) != 1:
        raise ValueError(f"arms of one look need the same number of pairs, got {sorted(sizes)}")
    return sizes.pop()
