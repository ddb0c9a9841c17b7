"""What came of an autopilot's runs: states, costs, and mAP by epoch."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from math import ceil, fsum
from typing import Literal

from configs.metric_keys import Metric
from service.domain.autopilot.autopilots import AutopilotJob
from service.domain.autopilot.history import AutopilotHistory, RunLaunch, RunOutcome, RunStop
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Attempt, MetricPoint, Run
from service.domain.states import RunState

AttemptKey = tuple[str, int]
"""A run's id and the number of the attempt."""


def read_history(uow: UnitOfWork, autopilot_id: str, *, now: datetime) -> AutopilotHistory:
    """The stored decisions of an autopilot, and what came of its runs so far.

    A launch without an outcome has no run yet.
    """
    entries = tuple(uow.autopilots.entries(autopilot_id))
    jobs = {job.key: job for job in uow.autopilots.jobs(autopilot_id)}
    launches = [entry for entry in entries if isinstance(entry, RunLaunch)]
    stopped = {entry.key for entry in entries if isinstance(entry, RunStop)}
    continued = {launch.continues for launch in launches if launch.key in jobs}
    run_ids = {jobs[launch.key].run_id for launch in launches if launch.key in jobs}
    runs = {run_id: uow.runs.get(run_id) for run_id in sorted(run_ids)}
    seconds = _seconds_of_attempts(uow, run_ids, now=now)
    points = uow.metric_points.of_runs(run_ids, key=Metric.MAP)
    outcomes = []
    for launch in launches:
        job = jobs.get(launch.key)
        if job is not None:
            run = runs[job.run_id]
            attempts = _list_attempts(job, jobs.values(), seconds)
            outcomes.append(
                RunOutcome(
                    key=launch.key,
                    state="stopped" if launch.key in continued else _describe_state(run),
                    spent_s=fsum(seconds[attempt] for attempt in attempts),
                    maps=maps_by_epoch(run, points.get(run.id, ()), epochs=launch.epochs),
                )
            )
        elif launch.key in stopped:
            outcomes.append(RunOutcome(key=launch.key, state="stopped"))
    return AutopilotHistory(entries=entries, outcomes=tuple(outcomes))


def maps_by_epoch(run: Run, points: Sequence[MetricPoint], *, epochs: int) -> dict[int, float]:
    """mAP after each evaluated epoch; of an evaluation job, at epoch 0.

    A point's epoch follows from its step, since a run's epochs are equally long.
    """
    if epochs == 0:
        return {0: points[-1].value} if points else {}
    progress = run.results.progress
    if progress is None or progress.epochs < 1 or progress.steps < 1:
        return {}
    steps_per_epoch = progress.steps / progress.epochs
    return {max(1, ceil(round(point.step / steps_per_epoch, 6))): point.value for point in points}


def share_time(spans: Sequence[tuple[datetime, datetime]]) -> list[float]:
    """The seconds of a job for each of its members, from the span in which each was in it: every
    moment is shared equally by the members that were."""
    moments = sorted({moment for span in spans for moment in span})
    seconds = [0.0] * len(spans)
    for start, end in pairwise(moments):
        members = [index for index, span in enumerate(spans) if span[0] <= start and end <= span[1]]
        for index in members:
            seconds[index] += (end - start).total_seconds() / len(members)
    return seconds


def _list_attempts(
    job: AutopilotJob, jobs: Iterable[AutopilotJob], attempts: Iterable[AttemptKey]
) -> list[AttemptKey]:
    """The attempts of a job: of its run, from its first one to that of the job that continues."""
    firsts = (other.first_attempt for other in jobs if other.run_id == job.run_id)
    end = min((first for first in firsts if first > job.first_attempt), default=None)
    return [
        (run_id, number)
        for run_id, number in attempts
        if run_id == job.run_id and number >= job.first_attempt and (end is None or number < end)
    ]


def _seconds_of_attempts(
    uow: UnitOfWork, run_ids: set[str], *, now: datetime
) -> dict[AttemptKey, float]:
    """The share that each attempt has of its job's time. Runs of others in a pack do not count."""
    jobs: dict[str, list[Attempt]] = {}
    for attempts in uow.attempts.of_runs(run_ids).values():
        for attempt in attempts:
            jobs.setdefault(attempt.pack_job or attempt.submission_id, []).append(attempt)
    return {
        (attempt.run_id, attempt.number): value
        for members in jobs.values()
        for attempt, value in zip(
            members,
            share_time([(member.created_at, member.ended_at or now) for member in members]),
            strict=True,
        )
    }


def _describe_state(run: Run) -> Literal["queued", "running", "succeeded", "failed", "stopped"]:
    match run.state:
        case RunState.SUCCEEDED:
            return "succeeded"
        case RunState.FAILED:
            return "failed"
        case RunState.CANCELLED:
            return "stopped"
        case _:
            return "queued" if run.attempt == 0 else "running"
