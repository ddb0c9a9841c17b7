"""A search for the best values of some fields: what is asked, and the list of what happened.

The list is the sweep's whole state, append-only and kept by the service. Search and scheduler are
rebuilt from it, whoever dies.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.protocol.names import Metric
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

SweepId = Annotated[str, Field(pattern=r"^s[0-9a-z]{12}$")]
"""The id of a sweep, made by the service."""

Values = dict[str, Scalar]
"""A trial's values by parameter: dotted fields of a run's spec, and `ratio`, `balance`."""

Space = Annotated[dict[str, Parameter], Field(min_length=1, max_length=16)]

_STRATEGY_NEEDS = ("distillation.cls_weight", "distillation.loc_weight")


class Objective(Contract):
    """A metric, as runs log it, and where it should go."""

    metric: Annotated[str, Field(min_length=1, max_length=250)] = Metric.MAP
    goal: Literal["max", "min"] = "max"


class Budget(Contract):
    """What a sweep may spend; no new trial begins when one of them is used up."""

    trials: Annotated[int, Field(ge=1, le=10_000)] = 16
    hours: Annotated[float, Field(gt=0.0)] | None = None
    gpu_hours: Annotated[float, Field(gt=0.0)] | None = None


class SweepSpec(Contract):
    """What to vary around a run, for how much, and how to look.

    Every trial is a run of its own: `base` with the trial's values in it.
    """

    base: RunSpec
    space: Space
    algorithm: Algorithm = Tpe()
    scheduler: Scheduler = NoScheduler()
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=4)] = (Objective(),)
    initial_points: Annotated[tuple[Values, ...], Field(max_length=256)] = ()
    """Values of the first trials, before the algorithm is asked; what is left out is the base's."""

    budget: Budget = Budget()
    concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Trials at the same time; none: as many as the cluster and the packs have room for."""

    repeats: Annotated[int, Field(ge=1, le=32)] = 1
    """Runs of each trial, with the seeds base.seed, base.seed + 1 and so on; their mean counts."""

    pack: Pack = "auto"
    baseline: bool = True
    """Whether each seed has a twin without a teacher, new or there already."""

    noise_runs: Annotated[int, Field(ge=0, le=32)] = 3
    """Baselines with different seeds from which the noise floor is known, new or there already."""

    probe: bool = True
    """Whether one batch shows first that every parameter has an effect, and what a step costs."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of the search; trials have the base's."""

    tags: Annotated[dict[Name, Label], Field(max_length=32, default_factory=dict)]

    @model_validator(mode="after")
    def _space_is_of_fields_that_may_vary(self) -> Self:
        for path, parameter in self.space.items():
            if path not in (RATIO, BALANCE) and not path.startswith(SWEEPABLE_PREFIXES):
                raise ValueError(
                    f"space: {path} cannot be swept; fields of distillation, schedule and student "
                    f"can, and {RATIO} and {BALANCE}"
                )
            unknown = sorted(parameter.when.keys() - self.space.keys())
            if unknown:
                raise ValueError(
                    f"space: {path} depends on {', '.join(unknown)}, which the space does not have"
                )
        return self

    @model_validator(mode="after")
    def _ratio_stands_for_the_weights(self) -> Self:
        if BALANCE in self.space and RATIO not in self.space:
            raise ValueError(f"space: {BALANCE} has no effect without {RATIO}")
        both = [path for path in _STRATEGY_NEEDS if path in self.space]
        if RATIO in self.space and both:
            raise ValueError(f"space: {RATIO} sets {' and '.join(both)}; sweep one or the other")
        if RATIO in self.space and not self.probe:
            raise ValueError(f"space: {RATIO} is measured by the probe; leave probe: true")
        return self

    @model_validator(mode="after")
    def _algorithm_fits(self) -> Self:
        if isinstance(self.algorithm, CoordinateSearch) and set(self.space) != set(_STRATEGY_NEEDS):
            raise ValueError(
                f"algorithm: coordinate is for {' and '.join(_STRATEGY_NEEDS)}, both and alone"
            )
        if len(self.objectives) > 1 and not isinstance(self.scheduler, NoScheduler):
            raise ValueError("scheduler: one that stops trials needs a single objective")
        if len(self.objectives) > 1 and isinstance(self.algorithm, CoordinateSearch):
            raise ValueError("algorithm: coordinate needs a single objective")
        if len({objective.metric for objective in self.objectives}) != len(self.objectives):
            raise ValueError("objectives: each metric once")
        return self

    @model_validator(mode="after")
    def _first_points_are_of_the_space(self) -> Self:
        for number, values in enumerate(self.initial_points):
            unknown = sorted(values.keys() - self.space.keys())
            if unknown:
                raise ValueError(f"first.{number}: {', '.join(unknown)} is not in the space")
        return self
