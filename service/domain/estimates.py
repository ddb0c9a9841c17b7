"""What a sweep takes, from a few timed steps: pure."""

from dataclasses import dataclass

from configs.protocol.probe import Costs
from configs.spec.sweep import SweepSpec

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Prices:
    """What an hour costs, in whatever currency; none: nobody said."""

    gpu_hour: float | None = None
    cpu_hour: float | None = None


NO_PRICES = Prices()


@dataclass(frozen=True)
class Estimate:
    """Of all trials trained to their end: schedulers only make it less."""

    hours: float
    """By the clock, with all of the cluster's slots for it."""

    gpu_hours: float
    cpu_hours: float
    separate_hours: float
    """By the clock, were each trial trained by itself."""

    saved: float
    """The part of the separate trials' work that packs save."""

    price: float | None


def estimate(
    spec: SweepSpec, costs: Costs, *, pack_size: int, slots: int, prices: Prices
) -> Estimate:
    """Time and money of a sweep; `slots` counts the jobs that run at the same time."""
    runs = spec.budget.trials * spec.repeats
    jobs = -(-runs // pack_size)
    packed_s = sum(
        _job_s(spec, costs, students=min(pack_size, runs - first))
        for first in range(0, runs, pack_size)
    )
    separate_s = runs * _job_s(spec, costs, students=1)
    asked = spec.base.resources
    hours = packed_s / _HOUR_S
    gpu_hours = hours * asked.num_gpus * asked.processes
    cpu_hours = hours * asked.num_cpus * asked.processes
    return Estimate(
        hours=hours / max(1, min(slots, jobs)),
        gpu_hours=gpu_hours,
        cpu_hours=cpu_hours,
        separate_hours=separate_s / _HOUR_S / max(1, min(slots, runs)),
        saved=1.0 - packed_s / separate_s,
        price=_price(prices, gpu_hours=gpu_hours, cpu_hours=cpu_hours),
    )


def _job_s(spec: SweepSpec, costs: Costs, *, students: int) -> float:
    """One pipeline, one look of the teacher, a step of each student; then each is measured."""
    schedule, evaluation = spec.base.schedule, spec.base.evaluation
    steps = costs.steps_per_epoch * schedule.epochs
    evaluations = -(-schedule.epochs // evaluation.every_epochs)
    step_s = costs.load_s + costs.teacher_s + students * costs.student_s
    return steps * step_s + evaluations * students * costs.evaluation_s


def _price(prices: Prices, *, gpu_hours: float, cpu_hours: float) -> float | None:
    """A node that is paid by its GPUs has its cores with them."""
    if gpu_hours and prices.gpu_hour is not None:
        return gpu_hours * prices.gpu_hour
    if not gpu_hours and prices.cpu_hour is not None:
        return cpu_hours * prices.cpu_hour
    return None
