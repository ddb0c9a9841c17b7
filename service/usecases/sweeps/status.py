"""How a sweep stands: its trials counted, the best so far, what it waits for; and its report."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from configs.protocol.sweep_log import SweepEntry, Trial, spec_in_force, trials_of
from configs.spec.run import NamedTeacher
from configs.spec.sweep import SweepSpec
from service.domain.errors import ReportNotFound
from service.domain.estimates import Estimate, Prices, estimate
from service.domain.repositories.baselines import REPORT_FILES, ReportFormat
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Run
from service.domain.states import RunState
from service.domain.sweeps import Sweep, SweepState, teacher_warning
from service.domain.trials import best_trial, by_result
from service.usecases.context import World
from service.usecases.sweeps.trials import baselines_under_way


@dataclass(frozen=True)
class SweepStatus:
    """A sweep as it is now."""

    sweep: Sweep
    spec: SweepSpec
    """In force: with the budget, space and algorithm of the last extension."""

    trials: int
    """That have begun."""

    by_result: dict[str, int]
    """How many ended how; `live` are those that go on."""

    best: Trial | None
    """By the first objective."""

    waiting_for: str | None
    warnings: tuple[str, ...]
    estimate: Estimate | None
    """None: no step was timed, or nothing is settled yet."""


def status_of(sweep_id: str, *, world: World) -> SweepStatus:
    """A sweep, and how it stands."""
    with world.store.begin() as unit:
        return _status(unit, unit.sweeps.get(sweep_id), prices=world.rules.prices)


def statuses_of(sweeps: Iterable[Sweep], *, world: World) -> list[SweepStatus]:
    """How each of some sweeps stands."""
    with world.store.begin() as unit:
        return [_status(unit, sweep, prices=world.rules.prices) for sweep in sweeps]


def report_of_sweep(sweep_id: str, format_: ReportFormat, *, world: World) -> bytes:
    """The report's file; `ReportNotFound` says why there is none, and what to do."""
    with world.store.begin() as unit:
        sweep = unit.sweeps.get(sweep_id)
        run = None if sweep.report_run_id is None else unit.runs.get(sweep.report_run_id)
    if run is not None and run.state is RunState.SUCCEEDED:
        content = world.files.text(world.files.run_dir(run.id) / REPORT_FILES[format_])
        if content:
            return content
    raise ReportNotFound(f"sweep {sweep.id}", what_to_do=_what_to_do(sweep, run))


def _what_to_do(sweep: Sweep, run: Run | None) -> str:
    if run is None and sweep.is_over:
        return "No trial was trained; `tandem extend` has it search on."
    if run is None or not run.is_over:
        return f"The sweep is {sweep.state}; it is made when the search ends."
    if run.state is RunState.SUCCEEDED:
        return f"Its file is not in the folder of run {run.id} any more."
    return f"Run {run.id}, which was to make it, is {run.state}; `tandem retry {run.id}`."


def _status(unit: Unit, sweep: Sweep, *, prices: Prices) -> SweepStatus:
    entries = unit.sweeps.entries(sweep.id)
    trials = trials_of(entries)
    return SweepStatus(
        sweep=sweep,
        spec=spec_in_force(sweep.spec, entries),
        trials=len(trials),
        by_result={str(state): count for state, count in by_result(trials.values()).items()},
        best=best_trial(trials.values(), sweep.spec.objectives[0]),
        waiting_for=_waiting_for(unit, sweep, trials),
        warnings=tuple(_warnings(unit, sweep)),
        estimate=_estimate(sweep, entries, prices=prices),
    )


def _estimate(sweep: Sweep, entries: Sequence[SweepEntry], *, prices: Prices) -> Estimate | None:
    if sweep.probe is None or sweep.driver == 0:
        return None
    in_force, costs = spec_in_force(sweep.spec, entries), sweep.probe.costs
    return estimate(in_force, costs, pack_size=sweep.pack_size, places=sweep.places, prices=prices)


def _warnings(unit: Unit, sweep: Sweep) -> Iterator[str]:
    """What is odd about the teacher, as the probe found it."""
    if sweep.probe is None:
        return
    teacher = sweep.spec.base.teacher
    known = unit.registry.teacher(teacher.name) if isinstance(teacher, NamedTeacher) else None
    warning = teacher_warning(sweep.probe, None if known is None else known.measured_map)
    if warning is not None:
        yield warning


def _waiting_for(unit: Unit, sweep: Sweep, trials: dict[int, Trial]) -> str | None:
    if sweep.state is SweepState.PROBING:
        return _of_run(unit, "its probe", sweep.probe_run_id)
    if sweep.state is SweepState.SEARCHING:
        return _search_waits_for(unit, sweep, trials)
    if sweep.state is not SweepState.REPORTING:
        return None
    missing = next(iter(baselines_under_way(unit, sweep)), None)
    if sweep.report_run_id is None and missing is not None:
        return _of_run(unit, "a baseline", missing.id)
    return _of_run(unit, "its report", sweep.report_run_id)


def _search_waits_for(unit: Unit, sweep: Sweep, trials: dict[int, Trial]) -> str | None:
    live = [number for number, trial in trials.items() if trial.ended is None]
    runs = [run for run in unit.runs.of_sweep(sweep.id, trials=live) if not run.is_over]
    if not runs:
        return "its driver, which begins the next trials"
    if all(run.state is RunState.QUEUED for run in runs):
        return f"{runs[0].waiting_for or 'the queue'} (run {runs[0].id})"
    return None


def _of_run(unit: Unit, what: str, run_id: str | None) -> str:
    if run_id is None:
        return what
    run = unit.runs.get(run_id)
    why = f", which waits for {run.waiting_for}" if run.waiting_for else ""
    return f"{what}, run {run.id}{why}"
