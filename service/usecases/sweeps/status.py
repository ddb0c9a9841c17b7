"""Status of sweeps: trials by result, the best trial, what it waits for, and its report."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from configs.protocol.sweep_log import SweepEntry, Trial, active_spec, replay_trials
from configs.spec.references import NamedTeacher
from configs.spec.sweep import SweepSpec
from service.domain.errors.requests import ReportNotFound
from service.domain.estimates import Estimate, Prices, estimate
from service.domain.repositories.baselines import REPORT_FILES
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.states import RunState
from service.domain.sweeps import Sweep, SweepState, teacher_warning
from service.domain.trials import best_trial, count_by_status
from service.domain.vocabulary import ReportFormat
from service.usecases.context import Context
from service.usecases.sweeps.trials import list_unfinished_baselines


@dataclass(frozen=True)
class SweepStatus:
    """A sweep with values derived from its log and its runs."""

    sweep: Sweep
    spec: SweepSpec
    """The active spec, with the budget, space and algorithm of the last extension."""

    trials: int
    """Number of trials that have started."""

    by_result: dict[str, int]
    """Number of trials by result; `running` for unfinished ones."""

    best: Trial | None
    """The best trial by the first objective; `None` while none has a value."""

    waiting_for: str | None
    warnings: tuple[str, ...]
    estimate: Estimate | None
    """`None` without a probe, and until the first driver starts."""


def get_status(sweep_id: str, *, ctx: Context) -> SweepStatus:
    """The status of one sweep; `SweepNotFound` for an unknown id."""
    with ctx.store.snapshot() as uow:
        return _build_status(uow, uow.sweeps.get(sweep_id), prices=ctx.policy.prices)


def get_statuses(sweeps: Iterable[Sweep], *, ctx: Context) -> list[SweepStatus]:
    """The status of each sweep, in the given order."""
    with ctx.store.snapshot() as uow:
        return [_build_status(uow, sweep, prices=ctx.policy.prices) for sweep in sweeps]


def read_sweep_report(sweep_id: str, format_: ReportFormat, *, ctx: Context) -> bytes:
    """A file of a sweep's report; `ReportNotFound` explains how to get it."""
    with ctx.store.snapshot() as uow:
        sweep = uow.sweeps.get(sweep_id)
        run = None if sweep.report_run_id is None else uow.runs.get(sweep.report_run_id)
    if run is not None and run.state is RunState.SUCCEEDED:
        content = ctx.files.text(ctx.files.run_dir(run.id) / REPORT_FILES[format_])
        if content:
            return content
    raise ReportNotFound(f"sweep {sweep.id}", hint=_explain_missing_report(sweep, run))


def _explain_missing_report(sweep: Sweep, run: Run | None) -> str:
    if run is None and sweep.is_over:
        return "No trial was trained; `tandem extend` resumes the search."
    if run is None or not run.is_over:
        return f"The sweep is {sweep.state}; the report is created when the search ends."
    if run.state is RunState.SUCCEEDED:
        return f"Its file is missing from the folder of run {run.id}."
    return f"Run {run.id}, which creates it, is {run.state}; use `tandem retry {run.id}`."


def _build_status(uow: UnitOfWork, sweep: Sweep, *, prices: Prices) -> SweepStatus:
    entries = uow.sweeps.entries(sweep.id)
    trials = replay_trials(entries)
    return SweepStatus(
        sweep=sweep,
        spec=active_spec(sweep.spec, entries),
        trials=len(trials),
        by_result={str(state): count for state, count in count_by_status(trials.values()).items()},
        best=best_trial(trials.values(), sweep.spec.objectives[0]),
        waiting_for=_waiting_for(uow, sweep, trials),
        warnings=tuple(_warnings(uow, sweep)),
        estimate=_estimate(sweep, entries, prices=prices),
    )


def _estimate(sweep: Sweep, entries: Sequence[SweepEntry], *, prices: Prices) -> Estimate | None:
    if sweep.probe is None or sweep.driver == 0:
        return None
    spec, costs = active_spec(sweep.spec, entries), sweep.probe.costs
    return estimate(spec, costs, pack_size=sweep.pack_size, slots=sweep.slots, prices=prices)


def _warnings(uow: UnitOfWork, sweep: Sweep) -> Iterator[str]:
    """Warnings about the teacher from the probe's measurements."""
    if sweep.probe is None:
        return
    teacher = sweep.spec.base.teacher
    registered = uow.registry.teacher(teacher.name) if isinstance(teacher, NamedTeacher) else None
    warning = teacher_warning(sweep.probe, None if registered is None else registered.measured_map)
    if warning is not None:
        yield warning


def _waiting_for(uow: UnitOfWork, sweep: Sweep, trials: dict[int, Trial]) -> str | None:
    if sweep.state is SweepState.PROBING:
        return _describe_run(uow, "its probe", sweep.probe_run_id)
    if sweep.state is SweepState.SEARCHING:
        return _describe_search_wait(uow, sweep, trials)
    if sweep.state is not SweepState.REPORTING:
        return None
    baseline = next(iter(list_unfinished_baselines(uow, sweep)), None)
    if sweep.report_run_id is None and baseline is not None:
        return _describe_run(uow, "a baseline", baseline.id)
    return _describe_run(uow, "its report", sweep.report_run_id)


def _describe_search_wait(uow: UnitOfWork, sweep: Sweep, trials: dict[int, Trial]) -> str | None:
    running = [number for number, trial in trials.items() if trial.ended is None]
    runs = [run for run in uow.runs.of_sweep(sweep.id, trials=running) if not run.is_over]
    if not runs:
        return "its driver, which starts the next trials"
    if all(run.state is RunState.QUEUED for run in runs):
        return f"{runs[0].queue.waiting_for or 'the queue'} (run {runs[0].id})"
    return None


def _describe_run(uow: UnitOfWork, role: str, run_id: str | None) -> str:
    if run_id is None:
        return role
    run = uow.runs.get(run_id)
    suffix = f", which waits for {run.queue.waiting_for}" if run.queue.waiting_for else ""
    return f"{role}, run {run.id}{suffix}"
