"""Consistency check of database rows against Ray, MLflow and files, with repairs where possible."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from configs.protocol.names import RunFile
from configs.protocol.records import Metrics
from configs.spec.run import RunSpec
from service.domain.errors.base import TandemError
from service.domain.errors.requests import PathRefused
from service.domain.errors.systems import ClusterFault, TrackerRefused, Unreachable
from service.domain.ports import FINAL_STATUS, Job
from service.domain.runs import Attempt, Event, Run
from service.domain.states import ACTIVE_STATES, FINISHED_STATES, RunState
from service.domain.vocabulary import EventKind
from service.usecases.attempts.records import import_spool
from service.usecases.context import Context

_PAGE_SIZE = 200
"""So many runs are in memory at a time."""


@dataclass(frozen=True)
class Fault:
    """One inconsistency."""

    kind: str
    subject: str
    """Id or name of the run, dataset, teacher or job; or the system that does not answer."""

    message: str
    repair: str | None = None
    """Describes `apply_repair`; `None` if only a person can repair it."""

    apply_repair: Callable[[], None] | None = None


@dataclass(frozen=True)
class _Page:
    """Some runs with what is compared with them, as of one moment."""

    runs: list[Run]
    attempts: dict[str, list[Attempt]]
    last_transitions: dict[str, Event]
    linked_run_ids: set[str]
    """Those of their baselines and reports that exist."""


def find_faults(ctx: Context) -> Iterator[Fault]:
    """Find all inconsistencies; an external system that does not answer is reported once.

    Reads the database page by page and keeps nobody from writing, so runs may continue meanwhile.
    """
    yield from _ray_faults(ctx=ctx)
    is_tracker_up = True
    for page in _read_pages(ctx):
        yield from _link_faults(page, ctx=ctx)
        for run in page.runs:
            yield from _row_faults(run, page, ctx=ctx)
            yield from _disk_faults(run, ctx=ctx)
        if is_tracker_up:
            try:
                yield from _mlflow_faults(page.runs, ctx=ctx)
            except Unreachable as error:
                is_tracker_up = False
                yield _system_fault("mlflow", "MLflow", error)
    yield from _registry_faults(ctx=ctx)


def _read_pages(ctx: Context) -> Iterator[_Page]:
    last_id = ""
    while True:
        with ctx.store.snapshot() as uow:
            runs = uow.runs.page_by_id(after=last_id, limit=_PAGE_SIZE)
            run_ids = [run.id for run in runs]
            links = {run.lineage.baseline_run_id for run in runs}
            links |= {run.lineage.report_run_id for run in runs}
            page = _Page(
                runs=runs,
                attempts=uow.attempts.of_runs(run_ids),
                last_transitions=uow.events.last_transitions(run_ids),
                linked_run_ids=uow.runs.find_existing([link for link in links if link is not None]),
            )
        if not runs:
            return
        yield page
        last_id = run_ids[-1]


def _row_faults(run: Run, page: _Page, *, ctx: Context) -> Iterator[Fault]:
    attempts = page.attempts.get(run.id, [])
    numbers = [attempt.number for attempt in attempts]
    if numbers != list(range(1, run.attempt + 1)):
        message = f"Its current attempt is {run.attempt}, but the database has {numbers}."
        yield Fault("attempts", run.id, message)
    for attempt in attempts:
        is_current = attempt.number == run.attempt and run.state in ACTIVE_STATES
        if attempt.ended_at is None and not is_current:
            yield Fault(
                "attempt_open",
                run.id,
                f"Attempt {attempt.number} has not ended, but the run is {run.state}.",
                repair="The attempt is ended now.",
                apply_repair=partial(_end_attempt, attempt, ctx=ctx),
            )
    last = page.last_transitions.get(run.id)
    if last is not None and last.to_state is not run.state:
        yield Fault(
            "state",
            run.id,
            f"It is {run.state}, but its last event says {last.to_state}.",
            repair="An event with the run's state is added.",
            apply_repair=partial(_add_state_event, run, last, ctx=ctx),
        )


def _link_faults(page: _Page, *, ctx: Context) -> Iterator[Fault]:
    """Runs whose baseline or report does not exist."""
    run_ids = page.linked_run_ids
    for run in page.runs:
        baseline_id, report_id = run.lineage.baseline_run_id, run.lineage.report_run_id
        if baseline_id is not None and baseline_id not in run_ids:
            yield Fault(
                "baseline",
                run.id,
                f"Its baseline, run {baseline_id}, does not exist: it is never compared.",
                repair="The reference to the baseline is removed.",
                apply_repair=partial(_clear_baseline, run, ctx=ctx),
            )
        if report_id is not None and report_id not in run_ids:
            yield Fault(
                "report",
                run.id,
                f"Its report, run {report_id}, does not exist.",
                repair="The reference to the report is removed; a new one may be requested.",
                apply_repair=partial(_clear_report, run, ctx=ctx),
            )


def _disk_faults(run: Run, *, ctx: Context) -> Iterator[Fault]:
    with ctx.store.snapshot() as uow:
        if uow.retention.has_deleted_files(run.id):
            return
    records = ctx.files.spool_records(run.id, 0)
    num_stored = run.ingest.next_spool_position
    if len(records) < num_stored:
        yield Fault(
            "spool_short",
            run.id,
            f"The database has {num_stored} of its records, but its spool has only "
            f"{len(records)}: its folder was changed or moved.",
        )
    elif len(records) > num_stored and run.state not in ACTIVE_STATES:
        yield Fault(
            "spool_left",
            run.id,
            f"{len(records) - num_stored} records of its spool were not imported.",
            repair="They are imported.",
            apply_repair=partial(_import_records, run, ctx=ctx),
        )
    metrics = [record for record in records[:num_stored] if isinstance(record, Metrics)]
    missing = _missing_points(run, metrics, ctx=ctx)
    if missing:
        yield Fault(
            "points",
            run.id,
            f"{missing} metric values of its spool are not in the database.",
            repair="They are inserted.",
            apply_repair=partial(_add_points, run, metrics, ctx=ctx),
        )
    if run.state is RunState.SUCCEEDED and isinstance(run.spec, RunSpec):
        for file in (RunFile.LAST, RunFile.BEST):
            if not ctx.files.has(ctx.files.run_dir(run.id) / file):
                yield Fault("checkpoint", run.id, f"It succeeded, but {file} is missing.")


def _ray_faults(*, ctx: Context) -> Iterator[Fault]:
    with ctx.store.snapshot() as uow:
        active = {run.job_id: run for run in uow.runs.in_states(*ACTIVE_STATES)}
    try:
        jobs = ctx.cluster.jobs()
        for job_id, run in active.items():
            job = jobs.get(job_id)
            if job is None or job.is_over:
                status = "does not know its job" if job is None else _describe_job(job)
                message = f"It is {run.state}, but Ray {status}"
                yield Fault("job", run.id, f"{message}; the service reconciles it by itself.")
        live = (job_id for job_id, job in jobs.items() if not job.is_over)
        for job_id in sorted(set(live) - active.keys()):
            if _is_orphan(job_id, ctx=ctx):
                yield Fault(
                    "orphan",
                    job_id,
                    "Its attempt has ended, but its job still runs.",
                    repair="The job is stopped.",
                    apply_repair=partial(ctx.cluster.stop, job_id),
                )
    except (Unreachable, ClusterFault) as error:
        yield _system_fault("ray", "Ray", error)


def _system_fault(kind: str, system: str, error: TandemError) -> Fault:
    """An external system does not answer: what was therefore not compared, and what helps."""
    message = f"{str(error).rstrip('.')}; so not all runs were compared with {system}."
    return Fault(kind, system, f"{message} {error.advice}" if error.advice else message)


def _describe_job(job: Job) -> str:
    return f"reports its job as {job.state}"


def _is_orphan(job_id: str, *, ctx: Context) -> bool:
    """Whether a job still runs, though each attempt that it is of has ended."""
    with ctx.store.snapshot() as uow:
        attempt = uow.attempts.by_submission(job_id)
        attempts = [attempt] if attempt is not None else uow.attempts.of_pack(job_id)
        runs = [uow.runs.get(attempt.run_id) for attempt in attempts]
    is_active = any(run.job_id == job_id and run.state in ACTIVE_STATES for run in runs)
    if not attempts or is_active:
        return False
    # It may have ended between the listing and now.
    job = ctx.cluster.get_job(job_id)
    return job is not None and not job.is_over


def _mlflow_faults(runs: list[Run], *, ctx: Context) -> Iterator[Fault]:
    """Raises `Unreachable` while MLflow does not answer."""
    for run in runs:
        if (
            run.state not in FINISHED_STATES
            or run.tracking.mlflow_run_id is None
            or not run.tracking.mlflow_synced
        ):
            continue
        try:
            status = ctx.tracker.status(run.tracking.mlflow_run_id)
        except TrackerRefused:
            status = None
        if status is None:
            yield Fault("mlflow_run", run.id, f"MLflow has no run {run.tracking.mlflow_run_id}.")
        elif status != FINAL_STATUS[run.state]:
            yield Fault(
                "mlflow_status",
                run.id,
                f"It is {run.state}, but MLflow shows {status}.",
                repair="The service sends the status to MLflow again.",
                apply_repair=partial(_resync, run, ctx=ctx),
            )


def _registry_faults(*, ctx: Context) -> Iterator[Fault]:
    with ctx.store.snapshot() as uow:
        datasets, teachers = uow.registry.datasets(), uow.registry.teachers()
    for dataset in datasets:
        try:
            manifest = ctx.files.manifest(dataset.root)
        except PathRefused as error:
            yield Fault("dataset", dataset.name, str(error))
            continue
        if manifest.digest != dataset.manifest.digest:
            message = f"{dataset.root} contains a dataset other than the registered one."
            yield Fault("dataset", dataset.name, message)
    for teacher in teachers:
        sha256 = ctx.files.sha256(teacher.checkpoint)
        if sha256 is None:
            yield Fault("teacher", teacher.name, f"{teacher.checkpoint} does not exist.")
        elif sha256 != teacher.sha256:
            message = f"The SHA-256 of {teacher.checkpoint} differs from the registered one."
            yield Fault("teacher", teacher.name, message)


def _missing_points(run: Run, metrics: list[Metrics], *, ctx: Context) -> int:
    if not metrics:
        return 0
    with ctx.store.snapshot() as uow:
        stored = {(point.key, point.step) for point in uow.metric_points.of_run(run.id, key=None)}
    return len({(key, record.step) for record in metrics for key in record.values} - stored)


def _clear_baseline(run: Run, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id)
        lineage = replace(current.lineage, baseline_run_id=None)
        uow.runs.save(replace(current, lineage=lineage))


def _clear_report(run: Run, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id)
        lineage = replace(current.lineage, report_run_id=None)
        uow.runs.save(replace(current, lineage=lineage))


def _end_attempt(attempt: Attempt, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        uow.attempts.save(replace(attempt, ended_at=ctx.clock.now()))


def _add_state_event(run: Run, last: Event, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        details = "Its last event had another state."
        now = ctx.clock.now()
        uow.events.add(
            Event(
                run.id,
                now,
                "fsck",
                EventKind.STATE_CHANGED,
                details,
                last.to_state,
                run.state,
                run.reason,
            )
        )


def _import_records(run: Run, *, ctx: Context) -> None:
    import_spool(run.id, ctx=ctx)


def _add_points(run: Run, metrics: list[Metrics], *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        uow.metric_points.add(run.id, metrics)


def _resync(run: Run, *, ctx: Context) -> None:
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(run.id)
        tracking = replace(current.tracking, mlflow_synced=False)
        uow.runs.save(replace(current, tracking=tracking))
