"""Delivers what an autopilot has decided for: exports it, and evaluates it with its rivals."""

from collections.abc import Sequence
from dataclasses import replace

from configs.spec.compute import Resources
from configs.spec.jobs import (
    EvaluationData,
    EvaluationSpec,
    ExportSpec,
    JobSpec,
    ReportSpec,
    explain_unsupported_export,
)
from configs.spec.references import RunTeacher
from configs.spec.run import RunSpec
from service.domain.autopilot.autopilots import (
    EVALUATION_KEY,
    EXPORT_KEY,
    REPORT_KEY,
    Autopilot,
    AutopilotPhase,
    enter_phase,
)
from service.domain.autopilot.conclusion import list_rivals, list_winning_pairs
from service.domain.autopilot.history import AutopilotHistory, Conclusion
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.usecases.autopilots.jobs import (
    AUTOPILOT_ACTOR,
    NewJob,
    add_autopilot_job,
    autopilot_tags,
)
from service.usecases.autopilots.outcomes import read_history
from service.usecases.autopilots.registration import register_delivery
from service.usecases.context import Context


def advance_delivery(autopilot: Autopilot, *, ctx: Context) -> None:
    """Launch the jobs of the delivery, and end the autopilot once all of them are over."""
    now = ctx.clock.now()
    with ctx.store.snapshot() as uow:
        history = read_history(uow, autopilot.id, now=now)
        jobs = {job.key: job.run_id for job in uow.autopilots.jobs(autopilot.id)}
        conclusion = _find_conclusion(history)
        delivered = uow.runs.get(jobs[conclusion.run or ""])
        specs = _list_jobs(autopilot, history, conclusion, delivered, run_ids=jobs)
        runs = {key: uow.runs.get(jobs[key]) for key in specs if key in jobs}
    missing = {key: spec for key, spec in specs.items() if key not in runs}
    if missing and autopilot.desired == "run":
        _launch(autopilot, missing, list_winning_pairs(history), ctx=ctx)
    elif not missing and all(run.is_over for run in runs.values()):
        export = runs[f"{EXPORT_KEY}.{conclusion.run}"]
        _finish(autopilot, history, delivered, export, ctx=ctx)


def _find_conclusion(history: AutopilotHistory) -> Conclusion:
    conclusion = history.entries[-1]
    assert isinstance(conclusion, Conclusion)  # it is delivered after its conclusion alone
    return conclusion


def _list_jobs(
    autopilot: Autopilot,
    history: AutopilotHistory,
    conclusion: Conclusion,
    delivered: Run,
    *,
    run_ids: dict[str, str],
) -> dict[str, JobSpec]:
    """The jobs of the delivery, by key."""
    base, tags = autopilot.spec.base, autopilot_tags(autopilot)
    resources = base.resources.model_copy(update={"processes": 1, "min_processes": None})
    assert isinstance(delivered.spec, RunSpec)
    student = delivered.spec.student.architecture
    formats = tuple(
        format_
        for format_ in autopilot.spec.formats
        if explain_unsupported_export(student, format_) is None
    )
    jobs: dict[str, JobSpec] = {
        f"{EXPORT_KEY}.{conclusion.run}": ExportSpec(
            model=RunTeacher(run=delivered.id),
            formats=formats or ("checkpoint",),
            resources=resources.model_copy(update={"num_gpus": 0}),
            tags=tags,
        )
    }
    for key in (conclusion.run, *list_rivals(history)):
        if key is not None:
            jobs[f"{EVALUATION_KEY}.{key}"] = EvaluationSpec(
                model=RunTeacher(run=run_ids[key]),
                data=EvaluationData(
                    dataset=base.data.dataset,
                    batch_size=base.evaluation.batch_size,
                    images=base.evaluation.val_images,
                    num_workers=base.data.num_workers,
                ),
                resources=resources,
                tags=tags,
            )
    if conclusion.claims_gain:
        jobs[f"{REPORT_KEY}.{conclusion.run}"] = ReportSpec(
            run=delivered.id, resources=Resources(num_cpus=1), tags=tags
        )
    return jobs


def _launch(
    autopilot: Autopilot,
    specs: dict[str, JobSpec],
    pairs: Sequence[tuple[str, str]],
    *,
    ctx: Context,
) -> None:
    with ctx.queue_transaction() as uow:
        uow.runs.lock_inserts()
        current = uow.autopilots.get_for_update(autopilot.id)
        existing = {job.key: job.run_id for job in uow.autopilots.jobs(autopilot.id)}
        if current.phase is not AutopilotPhase.DELIVERING or current.desired != "run":
            return
        for key, spec in specs.items():
            if key not in existing:
                job = NewJob(key, key.replace(".", " of ", 1), spec)
                run = add_autopilot_job(uow, current, job, at=ctx.clock.now())
                if isinstance(spec, ReportSpec):
                    run_ids = [(existing[pair[0]], existing[pair[1]]) for pair in pairs]
                    _assign_baselines(uow, run_ids, report=run)


def _assign_baselines(uow: UnitOfWork, pairs: Sequence[tuple[str, str]], *, report: Run) -> None:
    """Let the report compare these runs with their baselines, as it does for other runs.

    They had none before: a report for each would have taken as long as the runs.
    """
    for run_id, baseline_id in sorted(pairs):
        run = uow.runs.get_for_update(run_id)
        lineage = replace(run.lineage, baseline_run_id=baseline_id, report_run_id=report.id)
        uow.runs.save(replace(run, lineage=lineage))
        details = f"Its baseline is run {baseline_id}; run {report.id} compares them."
        at, kind = report.created_at, EventKind.BASELINE_ASSIGNED
        uow.events.add(Event(run.id, at, AUTOPILOT_ACTOR, kind, details))


def _finish(
    autopilot: Autopilot, history: AutopilotHistory, delivered: Run, export: Run, *, ctx: Context
) -> None:
    """End the autopilot, or say what its delivery waits for."""
    message = _find_conclusion(history).message
    if export.state is not RunState.SUCCEEDED:
        cause = export.message or "no known cause"
        message += f" Its export, run {export.id}, is {export.state}: {cause}"
        _save(autopilot, AutopilotPhase.FAILED, message, ctx=ctx)
        return
    registration = register_delivery(autopilot, history, delivered, export, ctx=ctx)
    phase = AutopilotPhase.SUCCEEDED if registration.is_over else AutopilotPhase.DELIVERING
    _save(autopilot, phase, f"{message} {registration.message}".rstrip(), ctx=ctx)


def _save(autopilot: Autopilot, phase: AutopilotPhase, message: str, *, ctx: Context) -> None:
    if (phase, message) == (autopilot.phase, autopilot.message):
        return
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        current = uow.autopilots.get_for_update(autopilot.id)
        if current.phase is AutopilotPhase.DELIVERING:
            uow.autopilots.save(enter_phase(current, phase, at=now, message=message))
