"""Trials as runs: begun, stopped, and how far they are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from configs.derived_specs import is_distilled, trial_spec
from configs.protocol.sweep_log import (
    SweepEntry,
    Trial,
    TrialJudged,
    TrialProgress,
    TrialSuggested,
    active_spec,
    replay_trials,
)
from configs.spec.run import RunSpec
from configs.spec.sweep import Values
from service.domain.metrics.series import Usage, merge_packs, totals_by_project
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run, truncate_with_suffix
from service.domain.sweeps import Sweep, SweepState
from service.domain.trials import (
    TrialRun,
    compute_standing,
    describe_exhausted_budget,
    format_values,
    running_trials,
)
from service.usecases.context import Context
from service.usecases.runs.actions import cancel_in_transaction
from service.usecases.runs.enqueue import add_run, create_queued_run

SWEEP_ACTOR = "sweep"
"""Who launches and stops the runs of trials."""


@dataclass(frozen=True)
class TrialState:
    """A trial with its runs and what they have told."""

    trial: Trial
    runs: tuple[Run, ...]
    standing: TrialProgress
    message: str
    """Why its values give no run, or why it did not begin; else empty."""


def start_trial(uow: UnitOfWork, sweep: Sweep, entry: TrialSuggested, *, at: datetime) -> list[Run]:
    """Queue a trial's runs; none if its values give no valid spec."""
    specs = build_trial_specs(sweep, entry.values)
    if isinstance(specs, str):
        return []
    name = truncate_with_suffix(sweep.name, f" #{entry.number}")
    runs = [
        replace(
            create_queued_run(
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
    told = f"Trial {entry.number} of sweep {sweep.id}: {format_values(entry.values)}."
    has_twin = sweep.spec.baseline
    return [
        add_run(
            uow, run, actor=SWEEP_ACTOR, details=told, has_baseline=has_twin and is_distilled(spec)
        )
        for run, spec in zip(runs, specs, strict=True)
    ]


def list_unfinished_baselines(uow: UnitOfWork, sweep: Sweep) -> list[Run]:
    """Runs that the sweep's trials are compared with, and that have not ended.

    One that was stopped waits for none: its own have been told to leave.
    """
    if sweep.desired == "stop":
        return []
    runs = uow.runs.of_sweep(sweep.id)
    own = {run.id: run for run in runs if run.trial is None and isinstance(run.spec, RunSpec)}
    twins = {run.baseline_run_id for run in runs if run.baseline_run_id is not None} - own.keys()
    found = [*own.values(), *(uow.runs.get(run_id) for run_id in sorted(twins))]
    return [run for run in found if not run.is_over]


def build_trial_specs(sweep: Sweep, values: Values) -> tuple[RunSpec, ...] | str:
    """The specs of a trial's runs, by seed; or why there are none."""
    base = sweep.spec.base
    try:
        return tuple(
            add_sweep_tags(
                trial_spec(base, values, seed=base.seed + number, probe=sweep.probe), sweep
            )
            for number in range(sweep.spec.repeats)
        )
    except KeyError as missing:
        return f"The probe did not measure {missing}."
    except ZeroDivisionError:
        return "A term of the loss is 0 on the probe's batch, so no weight gives it a ratio."
    except (ValueError, TypeError) as refused:
        return str(refused)


def add_sweep_tags(spec: RunSpec, sweep: Sweep) -> RunSpec:
    """A spec with the sweep's tags beside its own."""
    return spec.model_copy(update={"tags": {**spec.tags, **sweep.spec.tags}})


def stop_trial(uow: UnitOfWork, sweep: Sweep, entry: TrialJudged, *, at: datetime) -> None:
    """Have a trial's runs leave, as the scheduler decided."""
    told = ", ".join(f"its {metric} was {value:.4g}" for metric, value in entry.values.items())
    scheduler = sweep.spec.scheduler.kind
    why = f"Stopped by {scheduler} after epoch {entry.epoch}: {told or 'it had told nothing'}."
    cancel_runs(uow, uow.runs.of_sweep(sweep.id, trials=[entry.number]), why=why, at=at)


def cancel_runs(uow: UnitOfWork, runs: Iterable[Run], *, why: str, at: datetime) -> None:
    """Have those end that are not over; what they reached is kept."""
    for run in runs:
        current = uow.runs.get_for_update(run.id)
        if not current.is_over:
            cancel_in_transaction(uow, current, actor=SWEEP_ACTOR, why=why, at=at)


def find_stop_reason(
    uow: UnitOfWork, sweep: Sweep, entries: Sequence[SweepEntry], *, now: datetime
) -> str | None:
    """Why no trial may begin now; none: one may."""
    if sweep.state is not SweepState.SEARCHING:
        return f"the sweep is {sweep.state}"
    if sweep.desired == "stop":
        return "the sweep was stopped"
    in_force = active_spec(sweep.spec, entries)
    has_limit = in_force.budget.gpu_hours is not None
    return describe_exhausted_budget(
        in_force,
        trials=sum(isinstance(entry, TrialSuggested) for entry in entries),
        hours=sweep.search_hours(now),
        gpu_hours=compute_gpu_hours(uow, sweep, now=now) if has_limit else 0.0,
    )


def compute_gpu_hours(uow: UnitOfWork, sweep: Sweep, *, now: datetime) -> float:
    """What all runs of a sweep have had of GPUs, those that go on included."""
    uses = merge_packs(
        Usage(
            project=sweep.project,
            processes=attempt.processes,
            num_cpus=attempt.num_cpus,
            num_gpus=attempt.num_gpus,
            since=attempt.created_at,
            until=attempt.ended_at or now,
            pack_job=attempt.pack_job,
        )
        for attempt in uow.attempts.of_sweep(sweep.id)
    )
    return sum(one.gpu_s for one in totals_by_project(uses, before={}).values()) / 3600.0


def compute_standings(
    uow: UnitOfWork, sweep: Sweep, trials: Mapping[int, Trial]
) -> Iterator[TrialProgress]:
    """How far every trial is that has not ended in the list."""
    live = running_trials(trials)
    runs = _by_trial(uow.runs.of_sweep(sweep.id, trials=live))
    for number, trial in live.items():
        yield _standing(uow, sweep, trial, runs.get(number, []))[0]


def list_trials(sweep_id: str, *, ctx: Context) -> tuple[Sweep, list[TrialState]]:
    """A sweep and all of its trials, by number."""
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get(sweep_id)
        trials = replay_trials(uow.sweeps.entries(sweep_id))
        runs = _by_trial(uow.runs.of_sweep(sweep_id))
        return sweep, [
            _seen(uow, sweep, trial, runs.get(number, [])) for number, trial in trials.items()
        ]


def _seen(uow: UnitOfWork, sweep: Sweep, trial: Trial, runs: Sequence[Run]) -> TrialState:
    standing, why = _standing(uow, sweep, trial, runs)
    if not runs and why is None:
        why = "No trial could begin any more when it was suggested."
    return TrialState(trial, tuple(runs), standing, why or "")


def _standing(
    uow: UnitOfWork, sweep: Sweep, trial: Trial, runs: Sequence[Run]
) -> tuple[TrialProgress, str | None]:
    specs = () if runs else build_trial_specs(sweep, trial.values)
    why = specs if isinstance(specs, str) else None
    objectives = sweep.spec.objectives
    told = [
        TrialRun(
            run, {o.metric: uow.metric_points.of_run(run.id, key=o.metric) for o in objectives}
        )
        for run in (runs if trial.ended is None else ())
    ]
    if trial.ended is not None:
        ended = trial.ended
        return TrialProgress(number=trial.number, evaluations=(), result=ended.result), why
    return compute_standing(trial, told, objectives, why=why), why


def _by_trial(runs: Iterable[Run]) -> dict[int, list[Run]]:
    found: dict[int, list[Run]] = {}
    for run in runs:
        if run.trial is not None:
            found.setdefault(run.trial, []).append(run)
    return found
