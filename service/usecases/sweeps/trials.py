"""Trials as runs: begun, stopped, and how far they are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from configs.derived_specs import is_taught, trial_spec
from configs.protocol.sweep_log import (
    Judged,
    Suggested,
    SweepEntry,
    Trial,
    TrialStanding,
    spec_in_force,
    trials_of,
)
from configs.spec.run import RunSpec
from configs.spec.sweep import Values
from service.domain.metrics.series import Use, shared, spent_by_project
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Run, name_with_ending
from service.domain.sweeps import Sweep, SweepState
from service.domain.trials import (
    TrialRun,
    live_trials,
    standing_of,
    values_in_words,
    why_no_more_trials,
)
from service.usecases.context import World
from service.usecases.runs.actions import cancel_within
from service.usecases.runs.enqueue import add_run, queued_run

SWEEP_ACTOR = "sweep"
"""Who launches and stops the runs of trials."""


@dataclass(frozen=True)
class TrialState:
    """A trial with its runs and what they have told."""

    trial: Trial
    runs: tuple[Run, ...]
    standing: TrialStanding
    message: str
    """Why its values give no run, or why it did not begin; else empty."""


def begin_trial(unit: Unit, sweep: Sweep, entry: Suggested, *, at: datetime) -> list[Run]:
    """Queue a trial's runs; none if its values give no valid spec."""
    specs = trial_specs(sweep, entry.values)
    if isinstance(specs, str):
        return []
    name = name_with_ending(sweep.name, f" #{entry.number}")
    runs = [
        replace(
            queued_run(
                spec,
                name=name,
                project=sweep.project,
                priority=sweep.priority,
                at=at,
                preset=sweep.preset,
            ),
            sweep_id=sweep.id,
            trial=entry.number,
            pack_size=sweep.pack_size,
        )
        for spec in specs
    ]
    told = f"Trial {entry.number} of sweep {sweep.id}: {values_in_words(entry.values)}."
    has_twin = sweep.spec.baseline
    return [
        add_run(unit, run, actor=SWEEP_ACTOR, details=told, has_twin=has_twin and is_taught(spec))
        for run, spec in zip(runs, specs, strict=True)
    ]


def baselines_under_way(unit: Unit, sweep: Sweep) -> list[Run]:
    """Runs that the sweep's trials are compared with, and that have not ended.

    One that was stopped waits for none: its own have been told to leave.
    """
    if sweep.wants == "stop":
        return []
    runs = unit.runs.of_sweep(sweep.id)
    own = {run.id: run for run in runs if run.trial is None and isinstance(run.spec, RunSpec)}
    twins = {run.baseline_run_id for run in runs if run.baseline_run_id is not None} - own.keys()
    found = [*own.values(), *(unit.runs.get(run_id) for run_id in sorted(twins))]
    return [run for run in found if not run.is_over]


def trial_specs(sweep: Sweep, values: Values) -> tuple[RunSpec, ...] | str:
    """The specs of a trial's runs, by seed; or why there are none."""
    base = sweep.spec.base
    try:
        return tuple(
            tagged(trial_spec(base, values, seed=base.seed + number, probe=sweep.probe), sweep)
            for number in range(sweep.spec.repeats)
        )
    except KeyError as missing:
        return f"The probe did not measure {missing}."
    except ZeroDivisionError:
        return "A term of the loss is 0 on the probe's batch, so no weight gives it a ratio."
    except (ValueError, TypeError) as refused:
        return str(refused)


def tagged(spec: RunSpec, sweep: Sweep) -> RunSpec:
    """A spec with the sweep's tags beside its own."""
    return spec.model_copy(update={"tags": {**spec.tags, **sweep.spec.tags}})


def stop_trial(unit: Unit, sweep: Sweep, entry: Judged, *, at: datetime) -> None:
    """Have a trial's runs leave, as the scheduler decided."""
    told = ", ".join(f"its {metric} was {value:.4g}" for metric, value in entry.values.items())
    scheduler = sweep.spec.scheduler.kind
    why = f"Stopped by {scheduler} after epoch {entry.epoch}: {told or 'it had told nothing'}."
    cancel_runs(unit, unit.runs.of_sweep(sweep.id, trials=[entry.number]), why=why, at=at)


def cancel_runs(unit: Unit, runs: Iterable[Run], *, why: str, at: datetime) -> None:
    """Have those end that are not over; what they reached is kept."""
    for run in runs:
        current = unit.runs.take(run.id)
        if not current.is_over:
            cancel_within(unit, current, actor=SWEEP_ACTOR, why=why, at=at)


def why_none_begins(
    unit: Unit, sweep: Sweep, entries: Sequence[SweepEntry], *, now: datetime
) -> str | None:
    """Why no trial may begin now; none: one may."""
    if sweep.state is not SweepState.SEARCHING:
        return f"the sweep is {sweep.state}"
    if sweep.wants == "stop":
        return "the sweep was stopped"
    in_force = spec_in_force(sweep.spec, entries)
    has_limit = in_force.budget.gpu_hours is not None
    return why_no_more_trials(
        in_force,
        trials=sum(isinstance(entry, Suggested) for entry in entries),
        hours=sweep.hours_searched(now),
        gpu_hours=gpu_hours_of(unit, sweep, now=now) if has_limit else 0.0,
    )


def gpu_hours_of(unit: Unit, sweep: Sweep, *, now: datetime) -> float:
    """What all runs of a sweep have had of GPUs, those that go on included."""
    uses = shared(
        Use(
            project=sweep.project,
            processes=attempt.processes,
            num_cpus=attempt.num_cpus,
            num_gpus=attempt.num_gpus,
            since=attempt.created_at,
            until=attempt.ended_at or now,
            pack_job=attempt.pack_job,
        )
        for attempt in unit.attempts.of_sweep(sweep.id)
    )
    return sum(one.gpu_s for one in spent_by_project(uses, before={}).values()) / 3600.0


def standings_of(unit: Unit, sweep: Sweep, trials: Mapping[int, Trial]) -> Iterator[TrialStanding]:
    """How far every trial is that has not ended in the list."""
    live = live_trials(trials)
    runs = _by_trial(unit.runs.of_sweep(sweep.id, trials=live))
    for number, trial in live.items():
        yield _standing(unit, sweep, trial, runs.get(number, []))[0]


def trials_of_sweep(sweep_id: str, *, world: World) -> tuple[Sweep, list[TrialState]]:
    """A sweep and all of its trials, by number."""
    with world.store.begin() as unit:
        sweep = unit.sweeps.get(sweep_id)
        trials = trials_of(unit.sweeps.entries(sweep_id))
        runs = _by_trial(unit.runs.of_sweep(sweep_id))
        return sweep, [
            _seen(unit, sweep, trial, runs.get(number, [])) for number, trial in trials.items()
        ]


def _seen(unit: Unit, sweep: Sweep, trial: Trial, runs: Sequence[Run]) -> TrialState:
    standing, why = _standing(unit, sweep, trial, runs)
    if not runs and why is None:
        why = "No trial could begin any more when it was suggested."
    return TrialState(trial, tuple(runs), standing, why or "")


def _standing(
    unit: Unit, sweep: Sweep, trial: Trial, runs: Sequence[Run]
) -> tuple[TrialStanding, str | None]:
    specs = () if runs else trial_specs(sweep, trial.values)
    why = specs if isinstance(specs, str) else None
    objectives = sweep.spec.objectives
    told = [
        TrialRun(run, {o.metric: unit.points.of_run(run.id, key=o.metric) for o in objectives})
        for run in (runs if trial.ended is None else ())
    ]
    if trial.ended is not None:
        ended = trial.ended
        return TrialStanding(number=trial.number, evaluations=(), result=ended.result), why
    return standing_of(trial, told, objectives, why=why), why


def _by_trial(runs: Iterable[Run]) -> dict[int, list[Run]]:
    found: dict[int, list[Run]] = {}
    for run in runs:
        if run.trial is not None:
            found.setdefault(run.trial, []).append(run)
    return found
