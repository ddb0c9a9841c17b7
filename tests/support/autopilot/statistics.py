"""Bounds of rates that simulations measure."""

from scipy.stats import beta


def rate_bounds(events: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """The interval of Clopper and Pearson for the rate of `events` in `trials`."""
    tail = (1.0 - level) / 2.0
    low = 0.0 if events == 0 else float(beta.ppf(tail, events, trials - events + 1))
    high = 1.0 if events == trials else float(beta.ppf(1.0 - tail, events + 1, trials - events))
    return low, high
