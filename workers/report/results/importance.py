"""Importance of the parameters for the objective: functional ANOVA over finished trials."""

from collections.abc import Iterator, Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from configs.spec.search import Choice, Integer, LogUniform, Parameter, Scalar
from configs.spec.sweep import Objective, Space
from workers.report.results.trials import ReportTrial

_MIN_TRIALS = 4
"""Minimum number of trials; with fewer, the shares are mostly noise."""


def compute_importance(
    trials: Sequence[ReportTrial], *, space: Space, objective: Objective
) -> dict[str, float]:
    """Compute the importance by parameter as shares of 1, in descending order.

    `trials` have finished. Method: Hutter et al. (ICML 2014), as implemented in Optuna. Parameters
    that do not vary or that some trials do not have are left out. Empty without any parameter left
    or with too few trials.
    """
    values = [trial.value(objective) for trial in trials]
    if len(trials) < _MIN_TRIALS or len(set(values)) < 2:
        return {}
    distributions = dict(_distributions(trials, space))
    if not distributions:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if objective.goal == "max" else "minimize")
    study.add_trials(
        [
            optuna.create_trial(
                params={path: trial.values[path] for path in distributions},
                distributions=distributions,
                value=value,
            )
            for trial, value in zip(trials, values, strict=True)
        ]
    )
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))


def _distributions(
    trials: Sequence[ReportTrial], space: Space
) -> Iterator[tuple[str, BaseDistribution]]:
    for path, parameter in space.items():
        observed = [trial.values[path] for trial in trials if path in trial.values]
        if len(observed) == len(trials) and len(set(map(str, observed))) > 1:
            yield path, _distribution(parameter, observed)


def _distribution(parameter: Parameter, observed: Sequence[Scalar]) -> BaseDistribution:
    """The range of the spec, extended to all values: initial points may lie outside of it."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(tuple(dict.fromkeys((*parameter.values, *observed))))
    low = min(parameter.low, *(float(value) for value in observed))
    high = max(parameter.high, *(float(value) for value in observed))
    if isinstance(parameter, Integer):
        return IntDistribution(int(low), int(high), log=parameter.log)
    return FloatDistribution(low, high, log=isinstance(parameter, LogUniform) and low > 0)
