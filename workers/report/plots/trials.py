"""The trials of a sweep, prepared for plots."""

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
    """Finished trials, and those tied with the best within the noise floor."""

    trials: Sequence[ReportTrial]
    other_trials: Sequence[ReportTrial]
    """Trials that were stopped or failed."""

    space: Space
    objective: Objective
    best: int | None
    tied: Collection[int]
    names: Mapping[str, str]
    floor: float | None = None
    """Noise floor in display units; None if it is unknown or the objective is not mAP."""

    @property
    def best_and_tied(self) -> set[int]:
        """Numbers of the best trial and of those tied with it."""
        return {*self.tied, *([] if self.best is None else [self.best])}

    @property
    def display_factor(self) -> float:
        """Factor from the objective to display units: 100 for AP."""
        return 100.0 if is_ap(self.objective.metric) else 1.0

    @property
    def title(self) -> str:
        """Display name of the objective."""
        return metric_title(self.objective.metric)

    def display_value(self, trial: ReportTrial) -> float:
        """Objective of a finished trial in display units."""
        value = trial.value(self.objective)
        assert value is not None
        return value * self.display_factor

    @property
    def colormap(self) -> Colormap:
        """Color map in which bright is better for either goal."""
        return color_map() if self.objective.goal == "max" else color_map().reversed()

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value in display units; never equal."""
        values = [self.display_value(trial) for trial in self.trials]
        low, high = min(values), max(values)
        return (low, high) if high > low else (low - 0.5, high + 0.5)

    @property
    def scale(self) -> Normalize:
        """Normalization from the lowest to the highest value."""
        return Normalize(*self.limits)

    def format_display_value(self, value: float) -> str:
        """Format a value that is in display units."""
        return f"{value:.1f}" if self.display_factor > 1 else f"{value:.3g}"


def is_number(value: Scalar | None) -> bool:
    """Whether a value is a number, and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)
