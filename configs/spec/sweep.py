"""The spec of a sweep: a search for the best values of some fields of a run's spec."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.metric_keys import Metric
from configs.spec.base import Contract, Name
from configs.spec.run import Label, RunSpec
from configs.spec.search import (
    BALANCE,
    RATIO,
    SWEEPABLE_PREFIXES,
    Algorithm,
    CoordinateSearch,
    NoScheduler,
    Pack,
    Parameter,
    Scalar,
    Scheduler,
    Tpe,
)
from configs.suggestions import ask_did_you_mean, find_similar

SweepId = Annotated[str, Field(pattern=r"^s[0-9a-z]{12}$")]
"""The id of a sweep, assigned by the service."""

Values = dict[str, Scalar]
"""The values of a trial by parameter: dotted fields of a run's spec, `ratio` and `balance`."""

MAX_TRIALS = 10_000
"""Maximum number of trials of a sweep, extensions included."""

Space = Annotated[dict[str, Parameter], Field(min_length=1, max_length=16)]

_COORDINATE_PARAMETERS = ("distillation.cls_weight", "distillation.loc_weight")


class Objective(Contract):
    """A metric of runs to maximize or minimize."""

    metric: Annotated[str, Field(min_length=1, max_length=250)] = Metric.MAP
    goal: Literal["max", "min"] = "max"


class Budget(Contract):
    """Limits of a sweep: no further trial starts when one of them is reached."""

    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] = 16
    hours: Annotated[float, Field(gt=0.0)] | None = None
    gpu_hours: Annotated[float, Field(gt=0.0)] | None = None


def _suggest_parameter(path: str) -> str:
    """Which parameter was probably meant, or else which ones a sweep may have."""
    group, _, field = path.partition(".")
    names = [f"{prefix}{field}" for prefix in SWEEPABLE_PREFIXES if field] + [RATIO, BALANCE]
    if find_similar(group, [prefix.rstrip(".") for prefix in SWEEPABLE_PREFIXES]) and (
        question := ask_did_you_mean(path, names)
    ):
        return question
    return f"fields of distillation, schedule and student can, and {RATIO} and {BALANCE}"


class SweepSpec(Contract):
    """A sweep: which fields of a base run to vary, how to search, and with which budget.

    Each trial is a run of its own: `base` with the trial's values.
    """

    base: RunSpec
    space: Space
    algorithm: Algorithm = Tpe()
    scheduler: Scheduler = NoScheduler()
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=4)] = (Objective(),)
    initial_points: Annotated[tuple[Values, ...], Field(max_length=256)] = ()
    """Values of the first trials, before the algorithm suggests any. Missing ones are those of the
    base."""

    budget: Budget = Budget()
    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Maximum number of concurrent trials. None for as many as the cluster and the packs allow."""

    repeats: Annotated[int, Field(ge=1, le=32)] = 1
    """Runs of each trial, with the seeds base.seed, base.seed + 1 and so on; their means count."""

    pack: Pack = "auto"
    baseline: bool = True
    """Whether to compare with a baseline for each seed; existing ones are reused."""

    noise_runs: Annotated[int, Field(ge=0, le=32)] = 3
    """Number of baselines with different seeds for the noise floor; existing ones are reused."""

    probe: bool = True
    """Whether to probe first, on one batch, each parameter's effect and the costs of a step."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the search. Trials use the seed of the base."""

    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]

    @model_validator(mode="after")
    def _check_space(self) -> Self:
        for path, parameter in self.space.items():
            if path not in (RATIO, BALANCE) and not path.startswith(SWEEPABLE_PREFIXES):
                raise ValueError(f"space: {path} cannot be swept; {_suggest_parameter(path)}")
            unknown = sorted(parameter.when.keys() - self.space.keys())
            if unknown:
                raise ValueError(
                    f"space: {path} depends on {', '.join(unknown)}, which the space does not have"
                )
        return self

    @model_validator(mode="after")
    def _check_nested(self) -> Self:
        for path in self.space:
            if owner := next((p for p in self.space if path.startswith(f"{p}.")), None):
                raise ValueError(f"space: {path} is a field of {owner}; sweep one or the other")
        return self

    @model_validator(mode="after")
    def _check_ratio(self) -> Self:
        if BALANCE in self.space and RATIO not in self.space:
            raise ValueError(f"space: {BALANCE} has no effect without {RATIO}")
        weights = [path for path in self.space if path.startswith(_COORDINATE_PARAMETERS)]
        if RATIO in self.space and weights:
            raise ValueError(f"space: {RATIO} sets {' and '.join(weights)}; sweep one or the other")
        if RATIO in self.space and not self.probe:
            raise ValueError(f"space: {RATIO} is measured by the probe; leave probe: true")
        return self

    @model_validator(mode="after")
    def _check_algorithm(self) -> Self:
        if isinstance(self.algorithm, CoordinateSearch) and set(self.space) != set(
            _COORDINATE_PARAMETERS
        ):
            raise ValueError(
                f"algorithm: coordinate needs a space of exactly "
                f"{' and '.join(_COORDINATE_PARAMETERS)}"
            )
        if len(self.objectives) > 1 and not isinstance(self.scheduler, NoScheduler):
            raise ValueError("scheduler: a scheduler that stops trials needs a single objective")
        if len(self.objectives) > 1 and isinstance(self.algorithm, CoordinateSearch):
            raise ValueError("algorithm: coordinate needs a single objective")
        if len({objective.metric for objective in self.objectives}) != len(self.objectives):
            raise ValueError("objectives: give each metric only once")
        return self

    @model_validator(mode="after")
    def _check_initial_points(self) -> Self:
        for number, values in enumerate(self.initial_points):
            unknown = sorted(values.keys() - self.space.keys())
            if unknown:
                raise ValueError(
                    f"initial_points.{number}: {', '.join(unknown)} is not in the space"
                )
        return self
