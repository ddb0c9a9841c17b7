"""Reports about runs: made once by themselves, again when somebody asks; read, kept, served."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from configs.protocol.names import RunFile
from configs.protocol.report import Comparison, Report
from configs.spec.compute import Resources
from configs.spec.jobs import ReportSpec
from configs.spec.run import RunSpec
from service.domain.access import Caller
from service.domain.errors import FieldError, ReportNotFound, RunNotFound, SpecRefused
from service.domain.repositories.baselines import REPORT_FILES, ReportFormat, StoredComparison
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.usecases.context import Context
from service.usecases.runs.enqueue import add_run, create_queued_run


def request_report(run_id: str, *, caller: Caller, ctx: Context) -> tuple[Run, bool]:
    """Book a new report of a run that succeeded, and whether it is new.

    One that waits or is being made is the answer: what it will say is as new.
    """
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        run = uow.runs.get_for_update(run_id)
        if run.state is not RunState.SUCCEEDED or not isinstance(run.spec, RunSpec):
            raise _nothing_to_tell(run)
        earlier = _report_or_none(uow, run)
        if earlier is not None and not earlier.is_over:
            return earlier, False
        why = f"A report of run {run.id}, as asked."
        return _booked(uow, run, by=caller.name, why=why, ctx=ctx), True


def enqueue_comparison_report(run_id: str, *, ctx: Context) -> None:
    """Book the report that compares a run with its twin, if nobody has booked one before."""
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        run = uow.runs.get_for_update(run_id)
        if run.report_run_id is None:
            why = f"Run {run.id} and its baseline, run {run.baseline_run_id}, have both succeeded."
            _booked(uow, run, by="service", why=why, ctx=ctx)


def import_report(report: Run, *, ctx: Context) -> None:
    """Keep the comparisons of a report that succeeded; one that cannot be read is told, once."""
    now = ctx.clock.now()
    content = ctx.files.text(ctx.files.run_dir(report.id) / RunFile.REPORT_JSON)
    comparisons, fault = _comparisons_in(content)
    with ctx.store.transaction() as uow:
        current = uow.runs.get_for_update(report.id)
        if current.is_report_read:
            return
        for comparison in comparisons:
            _keep(uow, comparison, report, at=now)
        _tell_of_no_verdict(uow, report, comparisons, at=now)
        if fault is not None:
            uow.events.add(Event(report.id, now, "service", "refused", fault))
        uow.runs.save(replace(current, is_report_read=True))


def read_report_file(run_id: str, format_: ReportFormat, *, ctx: Context) -> bytes:
    """One of the files of a run's newest report; `ReportNotFound` says what to do without one."""
    with ctx.store.transaction() as uow:
        run = uow.runs.get(run_id)
        report = run if run.task == "report" else _report_or_none(uow, run)
    what = f"run {run_id}"
    if report is None:
        raise ReportNotFound(what, hint=_how_to_get_one(run))
    if not report.is_over:
        why = f"Run {report.id} makes it and is {report.state}; ask again when it has succeeded."
        raise ReportNotFound(what, hint=why)
    content = ctx.files.text(ctx.files.run_dir(report.id) / REPORT_FILES[format_])
    if report.state is not RunState.SUCCEEDED or not content:
        state = report.state if report.state is not RunState.SUCCEEDED else "without its files"
        why = (
            f"Run {report.id} that was to make it is {state}: {_message_of(report)}"
            f"`tandem retry {report.id}` tries it again; POST /v1/runs/{run_id}:report makes "
            "another one."
        )
        raise ReportNotFound(what, hint=why)
    return content


def _booked(uow: UnitOfWork, run: Run, *, by: str, why: str, ctx: Context) -> Run:
    now = ctx.clock.now()
    report = create_queued_run(
        ReportSpec(run=run.id, resources=Resources(num_cpus=1), tags=run.spec.tags),
        name=f"report of {run.name}",
        project=run.project,
        priority=run.priority,
        at=now,
    )
    booked = add_run(uow, report, actor=by, details=why)
    uow.runs.save(replace(run, report_run_id=report.id))
    uow.events.add(Event(run.id, now, by, "report", f"Run {report.id} makes a report of it."))
    return booked


def _report_or_none(uow: UnitOfWork, run: Run) -> Run | None:
    return None if run.report_run_id is None else uow.runs.get(run.report_run_id)


def _tell_of_no_verdict(
    uow: UnitOfWork, report: Run, comparisons: Sequence[Comparison], *, at: datetime
) -> None:
    """Whoever waits for a verdict hears that this report has none."""
    subject = report.spec.run if isinstance(report.spec, ReportSpec) else None
    if subject is None or any(subject in comparison.runs for comparison in comparisons):
        return
    if uow.runs.get(subject).baseline_run_id is not None:
        details = (
            f"Report {report.id} compares it with nothing; `tandem report {subject}` says why."
        )
        uow.events.add(Event(subject, at, "service", "no_verdict", details))


def _keep(uow: UnitOfWork, comparison: Comparison, report: Run, *, at: datetime) -> None:
    """Have a comparison stand for every run that it rests on, and for those that are equal to one.

    It does not replace one that rests on more pairs: reports of one family may be read in any
    order.
    """
    project = report.project
    runs = [run for run_id in comparison.runs if (run := _run_of(uow, run_id, project=project))]
    ids = {run.id for run in runs}
    if comparison.trial is None:
        digests = {run.spec_digest for run in runs if run.spec_digest is not None}
        ids |= set(uow.baselines.find_equal_pairs(digests, project=project))
    known = uow.comparisons.of_runs(ids)
    for run_id in sorted(ids):
        earlier = known.get(run_id)
        if earlier is None or len(earlier.runs) <= len(comparison.runs):
            uow.comparisons.put(StoredComparison(run_id, comparison, at))
            if comparison.trial is None:
                _show_report_of(uow, run_id, report)


def _show_report_of(uow: UnitOfWork, run_id: str, report: Run) -> None:
    """Have a run shown by the newest report that compares it; one that is being made stays."""
    run = uow.runs.get_for_update(run_id)
    shown = _report_or_none(uow, run)
    if shown is None or (shown.is_over and shown.id != report.id):
        uow.runs.save(replace(run, report_run_id=report.id))


def _comparisons_in(content: bytes) -> tuple[tuple[Comparison, ...], str | None]:
    """The comparisons of a report's file, or what is wrong with it."""
    try:
        return Report.model_validate_json(content).comparisons, None
    except ValidationError as error:
        faults = "; ".join(problem["msg"] for problem in error.errors()[:3])
        return (), f"{RunFile.REPORT_JSON} of the report cannot be read: {faults}."


def _run_of(uow: UnitOfWork, run_id: str, *, project: str) -> Run | None:
    try:
        run = uow.runs.get(run_id)
    except RunNotFound:
        return None
    return run if run.project == project else None


def _nothing_to_tell(run: Run) -> SpecRefused:
    what = (
        f"it is {run.state}" if isinstance(run.spec, RunSpec) else f"it does not train: {run.task}"
    )
    message = f"A report is of a training run that has succeeded, and run {run.id} cannot: {what}."
    return SpecRefused([FieldError("run", "nothing_to_report", message)])


def _how_to_get_one(run: Run) -> str:
    if run.state is not RunState.SUCCEEDED:
        return f"It is {run.state}; a report is made of a run that has succeeded."
    return f"POST /v1/runs/{run.id}:report makes one."


def _message_of(report: Run) -> str:
    return f"{report.message} " if report.message else ""
