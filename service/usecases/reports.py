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
from service.domain.errors import FieldFault, ReportNotFound, RunNotFound, SpecRefused
from service.domain.repositories.baselines import REPORT_FILES, KeptComparison, ReportFormat
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.usecases.context import World
from service.usecases.runs.enqueue import add_run, queued_run


def make_report(run_id: str, *, caller: Caller, world: World) -> tuple[Run, bool]:
    """Book a new report of a run that succeeded, and whether it is new.

    One that waits or is being made is the answer: what it will say is as new.
    """
    with world.store.begin() as unit:
        unit.runs.alone()
        run = unit.runs.take(run_id)
        if run.state is not RunState.SUCCEEDED or not isinstance(run.spec, RunSpec):
            raise _nothing_to_tell(run)
        earlier = _report_or_none(unit, run)
        if earlier is not None and not earlier.is_over:
            return earlier, False
        why = f"A report of run {run.id}, as asked."
        return _booked(unit, run, by=caller.name, why=why, world=world), True


def compare_once(run_id: str, *, world: World) -> None:
    """Book the report that compares a run with its twin, if nobody has booked one before."""
    with world.store.begin() as unit:
        unit.runs.alone()
        run = unit.runs.take(run_id)
        if run.report_run_id is None:
            why = f"Run {run.id} and its baseline, run {run.baseline_run_id}, have both succeeded."
            _booked(unit, run, by="service", why=why, world=world)


def read_report(report: Run, *, world: World) -> None:
    """Keep the comparisons of a report that succeeded; one that cannot be read is told, once."""
    now = world.clock.now()
    content = world.files.text(world.files.run_dir(report.id) / RunFile.REPORT_JSON)
    comparisons, fault = _comparisons_in(content)
    with world.store.begin() as unit:
        current = unit.runs.take(report.id)
        if current.is_report_read:
            return
        for comparison in comparisons:
            _keep(unit, comparison, report, at=now)
        _tell_of_no_verdict(unit, report, comparisons, at=now)
        if fault is not None:
            unit.events.add(Event(report.id, now, "service", "refused", fault))
        unit.runs.save(replace(current, is_report_read=True))


def report_file(run_id: str, format_: ReportFormat, *, world: World) -> bytes:
    """One of the files of a run's newest report; `ReportNotFound` says what to do without one."""
    with world.store.begin() as unit:
        run = unit.runs.get(run_id)
        report = run if run.task == "report" else _report_or_none(unit, run)
    what = f"run {run_id}"
    if report is None:
        raise ReportNotFound(what, what_to_do=_how_to_get_one(run))
    if not report.is_over:
        why = f"Run {report.id} makes it and is {report.state}; ask again when it has succeeded."
        raise ReportNotFound(what, what_to_do=why)
    content = world.files.text(world.files.run_dir(report.id) / REPORT_FILES[format_])
    if report.state is not RunState.SUCCEEDED or not content:
        state = report.state if report.state is not RunState.SUCCEEDED else "without its files"
        why = (
            f"Run {report.id} that was to make it is {state}: {_message_of(report)}"
            f"`tandem retry {report.id}` tries it again; POST /v1/runs/{run_id}:report makes "
            "another one."
        )
        raise ReportNotFound(what, what_to_do=why)
    return content


def _booked(unit: Unit, run: Run, *, by: str, why: str, world: World) -> Run:
    now = world.clock.now()
    report = queued_run(
        ReportSpec(run=run.id, resources=Resources(num_cpus=1), tags=run.spec.tags),
        name=f"report of {run.name}",
        project=run.project,
        priority=run.priority,
        at=now,
    )
    booked = add_run(unit, report, actor=by, details=why)
    unit.runs.save(replace(run, report_run_id=report.id))
    unit.events.add(Event(run.id, now, by, "report", f"Run {report.id} makes a report of it."))
    return booked


def _report_or_none(unit: Unit, run: Run) -> Run | None:
    return None if run.report_run_id is None else unit.runs.get(run.report_run_id)


def _tell_of_no_verdict(
    unit: Unit, report: Run, comparisons: Sequence[Comparison], *, at: datetime
) -> None:
    """Whoever waits for a verdict hears that this report has none."""
    subject = report.spec.run if isinstance(report.spec, ReportSpec) else None
    if subject is None or any(subject in comparison.runs for comparison in comparisons):
        return
    if unit.runs.get(subject).baseline_run_id is not None:
        details = (
            f"Report {report.id} compares it with nothing; `tandem report {subject}` says why."
        )
        unit.events.add(Event(subject, at, "service", "no_verdict", details))


def _keep(unit: Unit, comparison: Comparison, report: Run, *, at: datetime) -> None:
    """Have a comparison stand for every run that it rests on, and for those that are equal to one.

    It does not replace one that rests on more pairs: reports of one family may be read in any
    order.
    """
    project = report.project
    runs = [run for run_id in comparison.runs if (run := _run_of(unit, run_id, project=project))]
    ids = {run.id for run in runs}
    if comparison.trial is None:
        digests = {run.spec_digest for run in runs if run.spec_digest is not None}
        ids |= set(unit.twins.equal_pairs(digests, project=project))
    known = unit.comparisons.of_runs(ids)
    for run_id in sorted(ids):
        earlier = known.get(run_id)
        if earlier is None or len(earlier.runs) <= len(comparison.runs):
            unit.comparisons.put(KeptComparison(run_id, comparison, at))
            if comparison.trial is None:
                _show_report_of(unit, run_id, report)


def _show_report_of(unit: Unit, run_id: str, report: Run) -> None:
    """Have a run shown by the newest report that compares it; one that is being made stays."""
    run = unit.runs.take(run_id)
    shown = _report_or_none(unit, run)
    if shown is None or (shown.is_over and shown.id != report.id):
        unit.runs.save(replace(run, report_run_id=report.id))


def _comparisons_in(content: bytes) -> tuple[tuple[Comparison, ...], str | None]:
    """The comparisons of a report's file, or what is wrong with it."""
    try:
        return Report.model_validate_json(content).comparisons, None
    except ValidationError as error:
        faults = "; ".join(problem["msg"] for problem in error.errors()[:3])
        return (), f"{RunFile.REPORT_JSON} of the report cannot be read: {faults}."


def _run_of(unit: Unit, run_id: str, *, project: str) -> Run | None:
    try:
        run = unit.runs.get(run_id)
    except RunNotFound:
        return None
    return run if run.project == project else None


def _nothing_to_tell(run: Run) -> SpecRefused:
    what = (
        f"it is {run.state}" if isinstance(run.spec, RunSpec) else f"it does not train: {run.task}"
    )
    message = f"A report is of a training run that has succeeded, and run {run.id} cannot: {what}."
    return SpecRefused([FieldFault("run", "nothing_to_report", message)])


def _how_to_get_one(run: Run) -> str:
    if run.state is not RunState.SUCCEEDED:
        return f"It is {run.state}; a report is made of a run that has succeeded."
    return f"POST /v1/runs/{run.id}:report makes one."


def _message_of(report: Run) -> str:
    return f"{report.message} " if report.message else ""
