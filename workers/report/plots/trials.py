"""A sweep's trials as its pictures show them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.colors import Colormap, Normalize

from configs.spec.search import Scalar
from configs.spec.sweep import Objective, Space
from workers.report.plots.style import color_map
from workers.report.results.trials import ReportTrial
from workers.report.wording import is_ap, metric_title


@dataclass(frozen=True)
class SearchResults:
    """Finished trials, and which of them noise does not tell apart from the best."""

    trials: Sequence[ReportTrial]
    other_trials: Sequence[ReportTrial]
    """Those that were stopped or failed."""

    space: Space
    objective: Objective
    best: int | None
    tied: Collection[int]
    names: Mapping[str, str]
    floor: float | None = None
    """Of noise, in what is shown; none: unknown, or the objective is not mAP."""

    @property
    def best_and_tied(self) -> set[int]:
        """The best and what is tied with it."""
        return {*self.tied, *([] if self.best is None else [self.best])}

    @property
    def display_factor(self) -> float:
        """What the objective is multiplied with to be shown."""
        return 100.0 if is_ap(self.objective.metric) else 1.0

    @property
    def title(self) -> str:
        """The objective as people call it."""
        return metric_title(self.objective.metric)

    def display_value(self, trial: ReportTrial) -> float:
        """The objective of a finished trial, as it is shown."""
        value = trial.value(self.objective)
        assert value is not None
        return value * self.display_factor

    @property
    def colormap(self) -> Colormap:
        """Bright is good, whichever way the objective should go."""
        return color_map() if self.objective.goal == "max" else color_map().reversed()

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest trial, as they are shown; apart even where all are equal."""
        values = [self.display_value(trial) for trial in self.trials]
        low, high = min(values), max(values)
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    @property
    def scale(self) -> Normalize:
        """From the lowest to the highest trial."""
        return Normalize(*self.limits)

    def format_display_value(self, value: float) -> str:
        """A value that is multiplied already, in words."""
        return f"{value:.1f}" if self.display_factor > 1 else f"{value:.3g}"


def is_number(value: Scalar | None) -> bool:
    """Whether a value can stand on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)
