"""Do rows, Ray, MLflow and the disk agree? Each fault with what mends it, where something does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from configs.protocol.names import RunFile
from configs.protocol.records import Metrics
from configs.spec.run import RunSpec
from service.domain.errors import PathRefused, TrackerRefused, Unreachable
from service.domain.ports import FINAL_STATUS
from service.domain.runs import Attempt, Event, Run
from service.domain.states import ACTIVE_STATES, FINISHED_STATES, RunState
from service.usecases.attempts.records import import_spool
from service.usecases.context import Context


@dataclass(frozen=True)
class Fault:
    """Two places that do not agree."""

    kind: str
    subject: str
    """The run, dataset, teacher or job."""

    message: str
    repair: str | None = None
    """What `mend` does; none: a person has to."""

    apply_repair: Callable[[], None] | None = None


def find_faults(ctx: Context) -> Iterator[Fault]:
    """Everything that does not agree; outside systems that do not answer are a fault, once."""
    with ctx.store.transaction() as uow:
        runs = uow.runs.in_states(*RunState)
        attempts = {run.id: uow.attempts.of_run(run.id) for run in runs}
    yield from _link_faults(runs, ctx=ctx)
    for run in runs:
        yield from _row_faults(run, attempts[run.id], ctx=ctx)
        yield from _disk_faults(run, ctx=ctx)
    yield from _ray_faults(runs, attempts, ctx=ctx)
    yield from _mlflow_faults(runs, ctx=ctx)
    yield from _registry_faults(ctx=ctx)


def _row_faults(run: Run, attempts: list[Attempt], *, ctx: Context) -> Iterator[Fault]:
    numbers = [attempt.number for attempt in attempts]
    if numbers != list(range(1, run.attempt + 1)):
        yield Fault("attempts", run.id, f"It is at attempt {run.attempt}, but has {numbers}.")
    for attempt in attempts:
        is_current = attempt.number == run.attempt and run.state in ACTIVE_STATES
        if attempt.ended_at is None and not is_current:
            yield Fault(
                "attempt_open",
                run.id,
                f"Attempt {attempt.number} has no end, and the run is {run.state}.",
                repair="The attempt ends now.",
                apply_repair=partial(_close, attempt, ctx=ctx),
            )
    with ctx.store.transaction() as uow:
        moves = [event for event in uow.events.of_run(run.id) if event.to_state is not None]
    if moves and moves[-1].to_state is not run.state:
        yield Fault(
            "state",
            run.id,
            f"It is {run.state}, but its last event says {moves[-1].to_state}.",
            repair="An event says so.",
            apply_repair=partial(_say_state, run, moves[-1], ctx=ctx),
        )


def _link_faults(runs: list[Run], *, ctx: Context) -> Iterator[Fault]:
    """Runs that name another one, as their baseline or report, that is not there."""
    known = {run.id for run in runs}
    for run in runs:
        if run.baseline_run_id is not None and run.baseline_run_id not in known:
            yield Fault(
                "baseline",
                run.id,
                f"Its baseline, run {run.baseline_run_id}, is not there: it is never compared.",
                repair="It has no baseline any more.",
                apply_repair=partial(_forget_baseline, run, ctx=ctx),
            )
        if run.report_run_id is not None and run.report_run_id not in known:
            yield Fault(
                "report",
                run.id,
                f"Its report, run {run.report_run_id}, is not there.",
                repair="It has no report any more: another one may be made.",
                apply_repair=partial(_forget_report, run, ctx=ctx),
            )


def _disk_faults(run: Run, *, ctx: Context) -> Iterator[Fault]:
    records = ctx.files.spool_records(run.id, 0)
    if len(records) < run.next_spool_position:
        yield Fault(
            "spool_short",
            run.id,
            f"We took {run.next_spool_position} records, but its spool has {len(records)}: "
            "its folder was changed or lies elsewhere.",
        )
    elif len(records) > run.next_spool_position and run.state not in ACTIVE_STATES:
        yield Fault(
            "spool_left",
            run.id,
            f"{len(records) - run.next_spool_position} records of its spool were never taken.",
            repair="They are taken.",
            apply_repair=partial(_take_rest, run, ctx=ctx),
        )
    said = [record for record in records[: run.next_spool_position] if isinstance(record, Metrics)]
    missing = _missing_points(run, said, ctx=ctx)
    if missing:
        yield Fault(
            "points",
            run.id,
            f"{missing} metric values of its spool are not in the database.",
            repair="They are put there.",
            apply_repair=partial(_add_points, run, said, ctx=ctx),
        )
    if run.state is RunState.SUCCEEDED and isinstance(run.spec, RunSpec):
        for file in (RunFile.LAST, RunFile.BEST):
            if not ctx.files.has(ctx.files.run_dir(run.id) / file):
                yield Fault("checkpoint", run.id, f"It succeeded, but {file} is gone.")


def _ray_faults(
    runs: list[Run], attempts: dict[str, list[Attempt]], *, ctx: Context
) -> Iterator[Fault]:
    try:
        jobs = ctx.cluster.jobs()
    except Unreachable as error:
        yield Fault("ray", "Ray", str(error))
        return
    active = {run.job_id: run for run in runs if run.state in ACTIVE_STATES}
    for job_id, run in active.items():
        job = jobs.get(job_id)
        if job is None or job.is_over:
            said = "does not know it" if job is None else f"says it has {job.state}"
            yield Fault(
                "job", run.id, f"It is {run.state}, but Ray {said}; the service finds out itself."
            )
    tries = [attempt for of_run in attempts.values() for attempt in of_run]
    ours = {attempt.pack_job or attempt.submission_id for attempt in tries}
    for job_id in sorted(ours & jobs.keys() - active.keys()):
        if not jobs[job_id].is_over:
            yield Fault(
                "orphan",
                job_id,
                "Its attempt is over, but its job lives.",
                repair="The job is stopped.",
                apply_repair=partial(ctx.cluster.stop, job_id),
            )


def _mlflow_faults(runs: list[Run], *, ctx: Context) -> Iterator[Fault]:
    for run in runs:
        if run.state not in FINISHED_STATES or run.mlflow_run_id is None or not run.mlflow_synced:
            continue
        try:
            status = ctx.tracker.status(run.mlflow_run_id)
        except TrackerRefused:
            status = None
        except Unreachable as error:
            yield Fault("mlflow", "MLflow", str(error))
            return
        if status is None:
            what = f"MLflow has no run {run.mlflow_run_id}."
            yield Fault("mlflow_run", run.id, what)
        elif status != FINAL_STATUS[run.state]:
            yield Fault(
                "mlflow_status",
                run.id,
                f"It is {run.state}, but MLflow shows {status}.",
                repair="The service tells MLflow again.",
                apply_repair=partial(_tell_again, run, ctx=ctx),
            )


def _registry_faults(*, ctx: Context) -> Iterator[Fault]:
    with ctx.store.transaction() as uow:
        datasets, teachers = uow.registry.datasets(), uow.registry.teachers()
    for dataset in datasets:
        try:
            found = ctx.files.manifest(dataset.root)
        except PathRefused as error:
            yield Fault("dataset", dataset.name, str(error))
            continue
        if found.digest != dataset.manifest.digest:
            yield Fault("dataset", dataset.name, f"{dataset.root} holds another dataset by now.")
    for teacher in teachers:
        sha256 = ctx.files.sha256(teacher.checkpoint)
        if sha256 is None:
            yield Fault("teacher", teacher.name, f"{teacher.checkpoint} is gone.")
        elif sha256 != teacher.sha256:
            yield Fault("teacher", teacher.name, f"{teacher.checkpoint} is another file by now.")


def _missing_points(run: Run, said: list[Metrics], *, ctx: Context) -> int:
    with ctx.store.transaction() as uow:
        have = {(point.key, point.step) for point in uow.metric_points.of_run(run.id, key=None)}
    return len({(key, one.step) for one in said for key in one.values} - have)


def _forget_baseline(run: Run, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        uow.runs.save(replace(uow.runs.get_for_update(run.id), baseline_run_id=None))


def _forget_report(run: Run, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        uow.runs.save(replace(uow.runs.get_for_update(run.id), report_run_id=None))


def _close(attempt: Attempt, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        uow.attempts.save(replace(attempt, ended_at=ctx.clock.now()))


def _say_state(run: Run, last: Event, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        details = "Its last event said otherwise."
        now = ctx.clock.now()
        uow.events.add(
            Event(run.id, now, "fsck", "moved", details, last.to_state, run.state, run.reason)
        )


def _take_rest(run: Run, *, ctx: Context) -> None:
    import_spool(run.id, ctx=ctx)


def _add_points(run: Run, said: list[Metrics], *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        uow.metric_points.add(run.id, said)


def _tell_again(run: Run, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id)
        uow.runs.save(replace(current, mlflow_synced=False))
