"""Suggestions by Optuna's TPE, from a study that is rebuilt from the sweep's log."""

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

from configs.grids import is_same_value
from configs.protocol.sweep_log import Trial
from configs.spec.search import Choice, Integer, LogUniform, Parameter, Scalar, Tpe
from configs.spec.sweep import SweepSpec, Values
from workers.search.space import build_point, round_value
from workers.search.sweep_log import score


def suggest_by_tpe(
    spec: SweepSpec, algorithm: Tpe, trials: Sequence[Trial], *, draw: int
) -> Values:
    """Suggest values for the next trial; each `draw` for the same trial is independent."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=[
            "maximize" if objective.goal == "max" else "minimize" for objective in spec.objectives
        ],
        sampler=TPESampler(
            n_startup_trials=algorithm.startup,
            multivariate=False,
            constant_liar=True,
            seed=_seed(spec.seed, len(trials), draw),
        ),
    )
    study.add_trials([_to_frozen_trial(trial, spec) for trial in trials])
    suggested = study.ask()
    return build_point(
        spec.space, lambda path, parameter: _suggest_value(suggested, path, parameter)
    )


def _seed(*parts: int) -> int:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _suggest_value(suggested: optuna.Trial, path: str, parameter: Parameter) -> Scalar:
    if isinstance(parameter, Choice):
        return parameter.values[suggested.suggest_categorical(path, range(len(parameter.values)))]
    if isinstance(parameter, Integer):
        return suggested.suggest_int(path, parameter.low, parameter.high, log=parameter.log)
    is_log = isinstance(parameter, LogUniform)
    return round_value(
        parameter, suggested.suggest_float(path, parameter.low, parameter.high, log=is_log)
    )


def _to_frozen_trial(trial: Trial, spec: SweepSpec) -> FrozenTrial:
    params, distributions = _coordinates(trial.values, spec.space)
    return create_trial(params=params, distributions=distributions, **_outcome(trial, spec))


def _coordinates(
    values: Values, space: Mapping[str, Parameter]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """The values of a point that lie within the space; initial points may lie outside."""
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for path, value in values.items():
        if path not in space:
            continue
        coordinate = _to_coordinate(space[path], value)
        if coordinate is not None:
            params[path] = coordinate
            distributions[path] = _distribution(space[path])
    return params, distributions


def _to_coordinate(parameter: Parameter, value: Scalar) -> float | None:
    if isinstance(parameter, Choice):
        indices = (n for n, option in enumerate(parameter.values) if is_same_value(option, value))
        return next(indices, None)
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


def _outcome(trial: Trial, spec: SweepSpec) -> dict[str, Any]:
    """State and values for Optuna; a trial stopped early is pruned with its value so far."""
    if trial.ended is None:
        return {"state": TrialState.RUNNING}
    values = [trial.ended.values.get(objective.metric) for objective in spec.objectives]
    if score(trial, spec.objectives[0]) is None or None in values:
        return {"state": TrialState.FAIL}
    if trial.ended.result == "stopped" and len(values) == 1:
        reached = {trial.ended.epoch: values[0]}
        return {"state": TrialState.PRUNED, "value": values[0], "intermediate_values": reached}
    return {"state": TrialState.COMPLETE, "values": values}
