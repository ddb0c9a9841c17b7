"""How much each parameter matters for the objective: functional ANOVA over finished trials."""

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

_FEWEST = 4
"""Below so many trials shares would say more about chance than about parameters."""


def compute_importance(
    trials: Sequence[ReportTrial], *, space: Space, objective: Objective
) -> dict[str, float]:
    """Shares of 1 by parameter, the largest first; `trials` have finished.

    Hutter et al. (ICML 2014), by Optuna. A parameter that does not vary or that some trials do not
    have is left out; without any, or with too few trials, there is nothing.
    """
    values = [trial.value(objective) for trial in trials]
    if len(trials) < _FEWEST or len(set(values)) < 2:
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
        seen = [trial.values[path] for trial in trials if path in trial.values]
        if len(seen) == len(trials) and len(set(map(str, seen))) > 1:
            yield path, _distribution(parameter, seen)


def _distribution(parameter: Parameter, seen: Sequence[Scalar]) -> BaseDistribution:
    """The range as it was asked, widened to what was tried: first trials may lie outside of it."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(tuple(dict.fromkeys((*parameter.values, *seen))))
    low = min(parameter.low, *(float(value) for value in seen))
    high = max(parameter.high, *(float(value) for value in seen))
    if isinstance(parameter, Integer):
        return IntDistribution(int(low), int(high), log=parameter.log)
    return FloatDistribution(low, high, log=isinstance(parameter, LogUniform) and low > 0)
