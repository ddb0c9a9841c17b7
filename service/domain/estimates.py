"""Estimates the time of a run from an earlier one, and the time and the price of a sweep from a few
timed steps; no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from configs.protocol.probe import Costs
from configs.spec.active_methods import iter_methods, method_name
from configs.spec.run import RunSpec
from configs.spec.sweep import SweepSpec
from service.domain.runs import MetricPoint, Run

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
    return pack_duration_s(
        costs,
        students=students,
        epochs=spec.base.schedule.epochs,
        every_epochs=spec.base.evaluation.every_epochs,
    )


def pack_duration_s(
    costs: Costs, *, students: int, epochs: int, every_epochs: int, has_teacher: bool = True
) -> float:
    """How long a pack trains. A step loads a batch and runs the teacher once, then a step of each
    student; each student is evaluated by itself."""
    teacher_s = costs.teacher_s if has_teacher else 0.0
    step_s = costs.load_s + teacher_s + students * costs.student_s
    evaluations = -(-epochs // every_epochs)
    return costs.steps_per_epoch * epochs * step_s + evaluations * students * costs.evaluation_s


def _price(prices: Prices, *, gpu_hours: float, cpu_hours: float) -> float | None:
    """GPU hours include the price of the CPU cores that go with them."""
    if gpu_hours and prices.gpu_hour is not None:
        return gpu_hours * prices.gpu_hour
    if not gpu_hours and prices.cpu_hour is not None:
        return cpu_hours * prices.cpu_hour
    return None


@dataclass(frozen=True)
class RunEstimate:
    """Length of a training run, and how long it will take."""

    epochs: int
    steps_per_epoch: int
    """One more if the images have both orientations and fill the last batch of neither."""

    duration_s: float | None
    """From the start of its job to the end of the run; None without a reference."""

    reference_run_id: str | None
    """The run that the duration was computed from."""

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class TimedRun:
    """A run that was not interrupted, with the time that it took."""

    run_id: str
    epochs: int
    steps_per_epoch: int
    duration_s: float

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


def find_reference(spec: RunSpec, earlier: Iterable[Run], *, pack_size: int) -> TimedRun | None:
    """The first of `earlier` that computes the same in each step as a run with `spec` would.

    One that trained in a pack of the same size is preferred.
    """
    work = _work_of_step(spec)
    matches = [
        (run.pack.size, timed)
        for run in earlier
        if isinstance(run.spec, RunSpec) and _work_of_step(run.spec) == work
        if (timed := _time_run(run)) is not None
    ]
    preferred = [timed for size, timed in matches if size == pack_size]
    return next(iter(preferred or [timed for _, timed in matches]), None)


def estimate_run(
    spec: RunSpec,
    *,
    num_images: int,
    reference: TimedRun | None,
    points: Sequence[MetricPoint] = (),
) -> RunEstimate:
    """Estimate a run on a dataset with `num_images` training images.

    `points`: a metric that the reference logged while it trained. They tell the time of its steps
    and evaluations from that of its start and its end, which do not grow with the epochs.
    """
    epochs = spec.schedule.epochs
    if reference is None:
        used_images = min(num_images, spec.data.train_images or num_images)
        return RunEstimate(epochs, -(-used_images // spec.data.batch_size), None, None)
    step_s = _measure_step_s(reference, points)
    constant_s = max(0.0, reference.duration_s - step_s * reference.steps)
    duration_s = constant_s + step_s * epochs * reference.steps_per_epoch
    return RunEstimate(epochs, reference.steps_per_epoch, duration_s, reference.run_id)


def _measure_step_s(reference: TimedRun, points: Sequence[MetricPoint]) -> float:
    """Mean seconds of a step and its share of the evaluations."""
    first, last = (points[0], points[-1]) if points else (None, None)
    if first is None or last is None or first.step == last.step:
        return reference.duration_s / reference.steps
    return (last.at - first.at).total_seconds() / (last.step - first.step)


def _time_run(run: Run) -> TimedRun | None:
    """None if the run was interrupted, or reported no progress."""
    progress = run.results.progress
    if run.attempt != 1 or run.started_at is None or run.finished_at is None:
        return None
    if progress is None or progress.epochs == 0 or progress.steps == 0:
        return None
    duration_s = (run.finished_at - run.started_at).total_seconds()
    return TimedRun(run.id, progress.epochs, progress.steps // progress.epochs, duration_s)


def _work_of_step(spec: RunSpec) -> object:
    """Equal for specs whose steps take equally long on the same machine."""
    sections = {"student", "teacher", "data", "compute", "resources"}
    methods = [method_name(method) for method in iter_methods(spec.distillation)]
    return spec.model_dump(mode="json", include=sections), methods
