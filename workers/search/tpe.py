"""A trial's values by Optuna's TPE, from a study that is made anew out of the sweep's list."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from configs.protocol.sweep_log import Trial
from configs.spec.search import Choice, Integer, LogUniform, Parameter, Scalar, Tpe
from configs.spec.sweep import SweepSpec, Values
from workers.search.space import build_point, is_same_value, round_value
from workers.search.sweep_log import score


def suggest_by_tpe(
    plan: SweepSpec, algorithm: Tpe, trials: Sequence[Trial], *, draw: int
) -> Values:
    """Values that promise more than the others so far; the `draw` of one trial are independent."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=["maximize" if one.goal == "max" else "minimize" for one in plan.objectives],
        sampler=TPESampler(
            n_startup_trials=algorithm.startup,
            multivariate=False,
            constant_liar=True,
            seed=_seed(plan.seed, len(trials), draw),
        ),
    )
    study.add_trials([_as_optuna_knows(trial, plan) for trial in trials])
    asked = study.ask()
    return build_point(plan.space, lambda path, parameter: _asked_value(asked, path, parameter))


def _seed(*parts: int) -> int:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _asked_value(asked: optuna.Trial, path: str, parameter: Parameter) -> Scalar:
    if isinstance(parameter, Choice):
        return parameter.values[asked.suggest_categorical(path, range(len(parameter.values)))]
    if isinstance(parameter, Integer):
        return asked.suggest_int(path, parameter.low, parameter.high, log=parameter.log)
    is_log = isinstance(parameter, LogUniform)
    return round_value(
        parameter, asked.suggest_float(path, parameter.low, parameter.high, log=is_log)
    )


def _as_optuna_knows(trial: Trial, plan: SweepSpec) -> FrozenTrial:
    params, distributions = _coordinates(trial.values, plan.space)
    return create_trial(params=params, distributions=distributions, **_outcome(trial, plan))


def _coordinates(
    values: Values, space: Mapping[str, Parameter]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """What of a point lies in the space: a point that a person named need not, or not wholly."""
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for path, value in values.items():
        if path not in space:
            continue
        place = _place(space[path], value)
        if place is not None:
            params[path] = place
            distributions[path] = _distribution(space[path])
    return params, distributions


def _place(parameter: Parameter, value: Scalar) -> float | None:
    if isinstance(parameter, Choice):
        places = (n for n, one in enumerate(parameter.values) if is_same_value(one, value))
        return next(places, None)
    if isinstance(value, bool | str) or not parameter.low <= value <= parameter.high:
        return None
    return round(value) if isinstance(parameter, Integer) else value


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(range(len(parameter.values)))
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log)
    is_log = isinstance(parameter, LogUniform)
    return FloatDistribution(parameter.low, parameter.high, log=is_log)


def _outcome(trial: Trial, plan: SweepSpec) -> dict[str, Any]:
    """State and values; a trial that the scheduler stopped keeps the value it had."""
    if trial.ended is None:
        return {"state": TrialState.RUNNING}
    values = [trial.ended.values.get(objective.metric) for objective in plan.objectives]
    if score(trial, plan.objectives[0]) is None or None in values:
        return {"state": TrialState.FAIL}
    if trial.ended.result == "stopped" and len(values) == 1:
        reached = {trial.ended.epoch: values[0]}
        return {"state": TrialState.PRUNED, "value": values[0], "intermediate_values": reached}
    return {"state": TrialState.COMPLETE, "values": values}
