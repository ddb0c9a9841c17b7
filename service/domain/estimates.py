"""Estimates the time and the price of a sweep from a few timed steps; no I/O."""

from dataclasses import dataclass

from configs.protocol.probe import Costs
from configs.spec.sweep import SweepSpec

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Prices:
    """The price of an hour, in any currency; None if it is not configured."""

    gpu_hour: float | None = None
    cpu_hour: float | None = None


NO_PRICES = Prices()


@dataclass(frozen=True)
class Estimate:
    """The cost of a sweep if every trial trains to its end; a scheduler only lowers it."""

    hours: float
    """Wall-clock hours, if the sweep has all slots of the cluster."""

    gpu_hours: float
    cpu_hours: float
    separate_hours: float
    """Wall-clock hours, if each trial trained in a process of its own."""

    saved: float
    """The fraction of the separate trials' work that packs save."""

    price: float | None


def estimate(
    spec: SweepSpec, costs: Costs, *, pack_size: int, slots: int, prices: Prices
) -> Estimate:
    """The estimate for a sweep; `slots` counts the jobs that can run at the same time."""
    runs = spec.budget.trials * spec.repeats
    jobs = -(-runs // pack_size)
    packed_s = sum(
        _job_s(spec, costs, students=min(pack_size, runs - first))
        for first in range(0, runs, pack_size)
    )
    separate_s = runs * _job_s(spec, costs, students=1)
    resources = spec.base.resources
    hours = packed_s / _HOUR_S
    gpu_hours = hours * resources.num_gpus * resources.processes
    cpu_hours = hours * resources.num_cpus * resources.processes
    return Estimate(
        hours=hours / max(1, min(slots, jobs)),
        gpu_hours=gpu_hours,
        cpu_hours=cpu_hours,
        separate_hours=separate_s / _HOUR_S / max(1, min(slots, runs)),
        saved=1.0 - packed_s / separate_s,
        price=_price(prices, gpu_hours=gpu_hours, cpu_hours=cpu_hours),
    )


def _job_s(spec: SweepSpec, costs: Costs, *, students: int) -> float:
    """A step loads a batch and runs the teacher once, then a step of each student; each student is
    evaluated by itself."""
    schedule, evaluation = spec.base.schedule, spec.base.evaluation
    steps = costs.steps_per_epoch * schedule.epochs
    evaluations = -(-schedule.epochs // evaluation.every_epochs)
    step_s = costs.load_s + costs.teacher_s + students * costs.student_s
    return steps * step_s + evaluations * students * costs.evaluation_s


def _price(prices: Prices, *, gpu_hours: float, cpu_hours: float) -> float | None:
    """GPU hours include the price of the CPU cores that go with them."""
    if gpu_hours and prices.gpu_hour is not None:
        return gpu_hours * prices.gpu_hour
    if not gpu_hours and prices.cpu_hour is not None:
        return cpu_hours * prices.cpu_hour
    return None
