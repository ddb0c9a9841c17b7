"""Reports about runs: enqueued automatically or on request, imported, and served."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from configs.protocol.comparison import Comparison
from configs.protocol.names import RunFile
from configs.protocol.report import Report
from configs.spec.compute import Resources
from configs.spec.jobs import ReportSpec
from configs.spec.run import RunSpec
from service.domain.access import Caller
from service.domain.errors.base import FieldError
from service.domain.errors.requests import FileTooLarge, ReportNotFound, RunNotFound, SpecRefused
from service.domain.repositories.baselines import REPORT_FILES, StoredComparison
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.domain.vocabulary import EventKind, ReportFormat
from service.usecases.context import Context
from service.usecases.runs.enqueue import add_run, create_queued_run


def request_report(run_id: str, *, caller: Caller, ctx: Context) -> tuple[Run, bool]:
    """Enqueue a report of a succeeded run, and return whether it is new.

    A report that is still queued or running is returned instead. Raises `SpecRefused` for a run
    that did not succeed or does not train.
    """
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        run = uow.runs.get_for_update(run_id)
        if run.state is not RunState.SUCCEEDED or not isinstance(run.spec, RunSpec):
            raise _not_reportable(run)
        earlier = _find_report(uow, run)
        if earlier is not None and not earlier.is_over:
            return earlier, False
        reason = f"Report of run {run.id}, requested by {caller.name}."
        return _enqueue_report(uow, run, by=caller.name, reason=reason, ctx=ctx), True


def enqueue_comparison_report(run_id: str, *, ctx: Context) -> None:
    """Enqueue the report that compares a run with its baseline, unless the run has a report."""
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        run = uow.runs.get_for_update(run_id)
        if run.lineage.report_run_id is None:
            reason = f"Run {run.id} and its baseline, run {run.lineage.baseline_run_id}, succeeded."
            _enqueue_report(uow, run, by="service", reason=reason, ctx=ctx)


def import_report(report: Run, *, ctx: Context) -> None:
    """Store the comparisons of a succeeded report, once; an unreadable report becomes an event."""
    now = ctx.clock.now()
    comparisons, problem = _read_comparisons(report, ctx=ctx)
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(report.id)
        if current.lineage.is_report_read:
            return
        for comparison in comparisons:
            _store_comparison(uow, comparison, report, at=now)
        _record_missing_verdict(uow, report, comparisons, at=now)
        if problem is not None:
            uow.events.add(Event(report.id, now, "service", EventKind.REPORT_REJECTED, problem))
        uow.runs.save(replace(current, lineage=replace(current.lineage, is_report_read=True)))


def read_report_file(run_id: str, format_: ReportFormat, *, ctx: Context) -> bytes:
    """A file of a run's newest report; `ReportNotFound` explains how to get one."""
    with ctx.store.snapshot() as uow:
        run = uow.runs.get(run_id)
        report = run if run.task == "report" else _find_report(uow, run)
    subject = f"run {run_id}"
    if report is None:
        raise ReportNotFound(subject, hint=_explain_missing_report(run))
    if not report.is_over:
        hint = f"Run {report.id} creates it and is {report.state}; retry when it has succeeded."
        raise ReportNotFound(subject, hint=hint)
    content = ctx.files.text(ctx.files.run_dir(report.id) / REPORT_FILES[format_])
    if report.state is not RunState.SUCCEEDED or not content:
        state = report.state if report.state is not RunState.SUCCEEDED else "without its files"
        hint = (
            f"Run {report.id}, which creates it, is {state}: {_format_message(report)}"
            f"`tandem retry {report.id}` retries it; POST /v1/runs/{run_id}:report enqueues "
            "a new one."
        )
        raise ReportNotFound(subject, hint=hint)
    return content


def _enqueue_report(uow: UnitOfWork, run: Run, *, by: str, reason: str, ctx: Context) -> Run:
    now = ctx.clock.now()
    report = create_queued_run(
        ReportSpec(run=run.id, resources=Resources(num_cpus=1), tags=run.spec.tags),
        name=f"report of {run.name}",
        project=run.project,
        priority=run.queue.priority,
        at=now,
    )
    added = add_run(uow, report, actor=by, details=reason)
    uow.runs.save(replace(run, lineage=replace(run.lineage, report_run_id=report.id)))
    details = f"Run {report.id} creates a report of it."
    uow.events.add(Event(run.id, now, by, EventKind.REPORT_REQUESTED, details))
    return added


def _find_report(uow: UnitOfWork, run: Run) -> Run | None:
    return None if run.lineage.report_run_id is None else uow.runs.get(run.lineage.report_run_id)


def _record_missing_verdict(
    uow: UnitOfWork, report: Run, comparisons: Sequence[Comparison], *, at: datetime
) -> None:
    """Add an event for clients that wait for a verdict which the report does not contain."""
    subject = report.spec.run if isinstance(report.spec, ReportSpec) else None
    if subject is None or any(subject in comparison.runs for comparison in comparisons):
        return
    if uow.runs.get(subject).lineage.baseline_run_id is not None:
        details = (
            f"Report {report.id} has no comparison of it; `tandem report {subject}` shows why."
        )
        uow.events.add(Event(subject, at, "service", EventKind.NO_VERDICT, details))


def _store_comparison(
    uow: UnitOfWork, comparison: Comparison, report: Run, *, at: datetime
) -> None:
    """Store a comparison for each of its runs, and for runs with equal specs.

    A comparison of more pairs is not replaced: reports over the same seeds may be imported in any
    order.
    """
    project = report.project
    runs = [run for run_id in comparison.runs if (run := _find_run(uow, run_id, project=project))]
    ids = {run.id for run in runs}
    if comparison.trial is None:
        digests = {run.lineage.spec_digest for run in runs if run.lineage.spec_digest is not None}
        ids |= set(uow.baselines.find_equal_pairs(digests, project=project))
    stored = uow.comparisons.of_runs(ids)
    for run_id in sorted(ids):
        earlier = stored.get(run_id)
        if earlier is None or len(earlier.runs) <= len(comparison.runs):
            uow.comparisons.put(StoredComparison(run_id, comparison, at))
            if comparison.trial is None:
                _link_report(uow, run_id, report)


def _link_report(uow: UnitOfWork, run_id: str, report: Run) -> None:
    """Link a run to the newest report that compares it, unless a linked one is unfinished."""
    run = uow.runs.get_for_update(run_id)
    current = _find_report(uow, run)
    if current is None or (current.is_over and current.id != report.id):
        uow.runs.save(replace(run, lineage=replace(run.lineage, report_run_id=report.id)))


def _read_comparisons(report: Run, *, ctx: Context) -> tuple[tuple[Comparison, ...], str | None]:
    """The comparisons of a report's JSON, or a description of why it is invalid."""
    try:
        content = ctx.files.text(ctx.files.run_dir(report.id) / RunFile.REPORT_JSON)
        return Report.model_validate_json(content).comparisons, None
    except FileTooLarge as error:
        return (), str(error)
    except ValidationError as error:
        messages = "; ".join(problem["msg"] for problem in error.errors()[:3])
        return (), f"{RunFile.REPORT_JSON} of the report is invalid: {messages}."


def _find_run(uow: UnitOfWork, run_id: str, *, project: str) -> Run | None:
    try:
        run = uow.runs.get(run_id)
    except RunNotFound:
        return None
    return run if run.project == project else None


def _not_reportable(run: Run) -> SpecRefused:
    status = f"is {run.state}" if isinstance(run.spec, RunSpec) else f"has the task {run.task}"
    message = f"A report needs a training run that succeeded, but run {run.id} {status}."
    return SpecRefused([FieldError("run", "nothing_to_report", message)])


def _explain_missing_report(run: Run) -> str:
    if run.state is not RunState.SUCCEEDED:
        return f"The run is {run.state}; only a succeeded run has a report."
    return f"POST /v1/runs/{run.id}:report enqueues one."


def _format_message(report: Run) -> str:
    return f"{report.message} " if report.message else ""
