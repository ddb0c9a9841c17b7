"""The measurements of a run for a report: evaluations, losses, time and speed."""

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from configs.metric_keys import MEASURED_SHARE_PREFIX, WEIGHT_PREFIX, Metric
from configs.protocol.comparison import MAP_PARTS
from configs.protocol.report import CurvePoint, RunExecution
from configs.spec.run import RunSpec
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Attempt, MetricPoint, Run

_STUDENT_PREFIX, _TEACHER_PREFIX, _LOSS_PREFIX = "val", "teacher", "train/loss"
"""Prefixes of metric keys."""

_MAX_INTERVALS = 60
"""Number of intervals of a whole training that losses and speed are averaged over."""


def read_teacher_scores(uow: UnitOfWork, run: Run) -> dict[str, float]:
    """The mAP of the run's teacher by part, from 0 to 1; empty without a teacher."""
    scores = {}
    for part in MAP_PARTS:
        points = uow.metric_points.of_run(run.id, key=f"{_TEACHER_PREFIX}/{part}")
        if points:
            scores[part] = points[-1].value
    return scores


def build_evaluation_curve(uow: UnitOfWork, run: Run, spec: RunSpec) -> tuple[CurvePoint, ...]:
    """The student's evaluations by step, keyed by full metric names."""
    points = [
        point
        for part in MAP_PARTS
        for point in uow.metric_points.of_run(run.id, key=f"{_STUDENT_PREFIX}/{part}")
    ]
    return _build_curve(points, run, spec)


def build_loss_curve(uow: UnitOfWork, run: Run, spec: RunSpec) -> tuple[CurvePoint, ...]:
    """The training losses, averaged over at most `_MAX_INTERVALS` intervals."""
    return _build_curve(_read_means(uow, run, prefix=_LOSS_PREFIX), run, spec)


def build_weight_curve(uow: UnitOfWork, run: Run, spec: RunSpec) -> tuple[CurvePoint, ...]:
    """The weights that move and their measured shares, averaged as the losses are."""
    points = [
        point
        for prefix in (WEIGHT_PREFIX, MEASURED_SHARE_PREFIX)
        for point in _read_means(uow, run, prefix=prefix)
    ]
    return _build_curve(points, run, spec)


def build_execution(uow: UnitOfWork, run: Run) -> RunExecution:
    """When, where and how fast a run trained."""
    attempt = uow.attempts.get(run.id, run.attempt)
    speeds = _read_means(uow, run, prefix=Metric.IMAGES_PER_S)
    progress, resources = run.results.progress, run.spec.resources
    return RunExecution(
        state=run.state,
        started_at=run.started_at,
        finished_at=run.finished_at,
        attempts=run.attempt,
        steps=None if progress is None else progress.steps or None,
        device=None if attempt is None else attempt.device,
        processes=resources.processes if attempt is None else attempt.processes,
        cpus_per_process=resources.num_cpus,
        pack_size=_count_pack_members(uow, attempt),
        images_per_s=median(point.value for point in speeds) if speeds else None,
        inference_images_per_s=run.results.latest.get(Metric.INFERENCE_IMAGES_PER_S),
    )


def _read_means(uow: UnitOfWork, run: Run, *, prefix: str) -> list[MetricPoint]:
    steps = 0 if run.results.progress is None else run.results.progress.steps
    every_steps = max(1, -(-steps // _MAX_INTERVALS))
    return uow.metric_points.means_of_run(run.id, prefix=prefix, every_steps=every_steps)


def _count_pack_members(uow: UnitOfWork, attempt: Attempt | None) -> int:
    if attempt is None or attempt.pack_job is None:
        return 1
    return len(uow.attempts.of_pack(attempt.pack_job))


def _build_curve(points: Iterable[MetricPoint], run: Run, spec: RunSpec) -> tuple[CurvePoint, ...]:
    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    for point in points:
        by_step[point.step][point.key] = point.value
    steps_per_epoch = _steps_per_epoch(run, spec, last=max(by_step, default=0))
    return tuple(
        CurvePoint(step=step, epoch=step / steps_per_epoch, values=values)
        for step, values in sorted(by_step.items())
    )


def _steps_per_epoch(run: Run, spec: RunSpec, *, last: int) -> float:
    """From the worker's progress; without it, the last point counts as the last epoch's."""
    progress = run.results.progress
    if progress is not None and progress.steps and progress.epochs:
        return progress.steps / progress.epochs
    return max(1.0, last / spec.schedule.epochs)
