"""Trials as runs: started, stopped, and their progress."""

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
from service.domain.runs import Lineage, PackMembership, Run, truncate_with_suffix
from service.domain.sweeps import Sweep, SweepState
from service.domain.trials import (
    TrialRun,
    compute_trial_progress,
    describe_exhausted_budget,
    format_values,
    running_trials,
)
from service.usecases.baselines.lookup import look_up_baseline
from service.usecases.context import Context
from service.usecases.runs.actions import cancel_in_transaction
from service.usecases.runs.enqueue import add_run, create_queued_run

SWEEP_ACTOR = "sweep"
"""Actor of events about the runs of a sweep."""


@dataclass(frozen=True)
class TrialState:
    """A trial with its runs and their progress."""

    trial: Trial
    runs: tuple[Run, ...]
    progress: TrialProgress
    message: str
    """Why the trial has no runs; empty if it has some."""


def start_trial(uow: UnitOfWork, sweep: Sweep, entry: TrialSuggested, *, at: datetime) -> list[Run]:
    """Enqueue the runs of a trial, one per repeat; none if its values give no valid spec."""
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
            lineage=Lineage(sweep_id=sweep.id, trial=entry.number),
            pack=PackMembership(size=sweep.pack_size),
        )
        for spec in specs
    ]
    details = f"Trial {entry.number} of sweep {sweep.id}: {format_values(entry.values)}."
    return [
        add_run(
            uow,
            run,
            actor=SWEEP_ACTOR,
            details=details,
            lookup=look_up_baseline(uow, spec, project=sweep.project)
            if sweep.spec.baseline and is_distilled(spec)
            else None,
        )
        for run, spec in zip(runs, specs, strict=True)
    ]


def list_unfinished_baselines(uow: UnitOfWork, sweep: Sweep) -> list[Run]:
    """Unfinished runs that the sweep's trials are compared with.

    Empty for a stopped sweep, whose own baselines were cancelled.
    """
    if sweep.desired == "stop":
        return []
    runs = uow.runs.of_sweep(sweep.id)
    own = {
        run.id: run for run in runs if run.lineage.trial is None and isinstance(run.spec, RunSpec)
    }
    assigned = (run.lineage.baseline_run_id for run in runs)
    baseline_ids = {run_id for run_id in assigned if run_id is not None} - own.keys()
    baselines = [*own.values(), *(uow.runs.get(run_id) for run_id in sorted(baseline_ids))]
    return [run for run in baselines if not run.is_over]


def build_trial_specs(sweep: Sweep, values: Values) -> tuple[RunSpec, ...] | str:
    """The specs of a trial's runs by seed, or a description of why its values are invalid."""
    base = sweep.spec.base
    try:
        return tuple(
            add_sweep_tags(
                trial_spec(base, values, seed=base.seed + number, probe=sweep.probe), sweep
            )
            for number in range(sweep.spec.repeats)
        )
    except KeyError as key:
        return f"The probe did not measure {key}."
    except ZeroDivisionError:
        return "A loss term is 0 on the probe's batch, so no weight can give it a ratio."
    except (ValueError, TypeError) as error:
        return str(error)


def add_sweep_tags(spec: RunSpec, sweep: Sweep) -> RunSpec:
    """A copy of a spec with the sweep's tags added; they override its own."""
    return spec.model_copy(update={"tags": {**spec.tags, **sweep.spec.tags}})


def stop_trial(uow: UnitOfWork, sweep: Sweep, entry: TrialJudged, *, at: datetime) -> None:
    """Cancel the runs of a trial that the scheduler stopped."""
    values = ", ".join(f"its {metric} was {value:.4g}" for metric, value in entry.values.items())
    scheduler = sweep.spec.scheduler.kind
    reason = f"Stopped by {scheduler} after epoch {entry.epoch}: {values or 'it had no values'}."
    cancel_runs(uow, uow.runs.of_sweep(sweep.id, trials=[entry.number]), reason=reason, at=at)


def cancel_runs(uow: UnitOfWork, runs: Iterable[Run], *, reason: str, at: datetime) -> None:
    """Cancel the unfinished ones among some runs; their results so far are kept."""
    for run in runs:
        current = uow.runs.get_for_update(run.id)
        if not current.is_over:
            cancel_in_transaction(uow, current, actor=SWEEP_ACTOR, reason=reason, at=at)


def find_stop_reason(
    uow: UnitOfWork, sweep: Sweep, entries: Sequence[SweepEntry], *, now: datetime
) -> str | None:
    """Why no more trials may start; `None` if one may."""
    if sweep.state is not SweepState.SEARCHING:
        return f"the sweep is {sweep.state}"
    if sweep.desired == "stop":
        return "the sweep was stopped"
    spec = active_spec(sweep.spec, entries)
    has_limit = spec.budget.gpu_hours is not None
    return describe_exhausted_budget(
        spec,
        trials=sum(isinstance(entry, TrialSuggested) for entry in entries),
        hours=sweep.search_hours(now),
        gpu_hours=compute_gpu_hours(uow, sweep, now=now) if has_limit else 0.0,
    )


def compute_gpu_hours(uow: UnitOfWork, sweep: Sweep, *, now: datetime) -> float:
    """GPU hours of all attempts of a sweep, running ones until `now` included."""
    usages = merge_packs(
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
    return sum(totals.gpu_s for totals in totals_by_project(usages, before={}).values()) / 3600.0


def compute_progress(
    uow: UnitOfWork, sweep: Sweep, trials: Mapping[int, Trial]
) -> Iterator[TrialProgress]:
    """The progress of every trial that has no end in the log."""
    running = running_trials(trials)
    runs = _group_by_trial(uow.runs.of_sweep(sweep.id, trials=running))
    for number, trial in running.items():
        yield _compute_trial_progress(uow, sweep, trial, runs.get(number, []))[0]


def list_trials(
    sweep_id: str, *, after: int, limit: int, ctx: Context
) -> tuple[Sweep, list[TrialState]]:
    """A sweep and up to `limit` of its trials with numbers above `after`, by number.

    `SweepNotFound` for an unknown id.
    """
    with ctx.store.snapshot() as uow:
        sweep = uow.sweeps.get(sweep_id)
        trials = replay_trials(uow.sweeps.entries(sweep_id))
        numbers = sorted(number for number in trials if number > after)[:limit]
        runs = _group_by_trial(uow.runs.of_sweep(sweep_id, trials=numbers))
        return sweep, [
            _build_state(uow, sweep, trials[number], runs.get(number, [])) for number in numbers
        ]


def _build_state(uow: UnitOfWork, sweep: Sweep, trial: Trial, runs: Sequence[Run]) -> TrialState:
    progress, reason = _compute_trial_progress(uow, sweep, trial, runs)
    if not runs and reason is None:
        reason = "No more trials could start when it was suggested."
    return TrialState(trial, tuple(runs), progress, reason or "")


def _compute_trial_progress(
    uow: UnitOfWork, sweep: Sweep, trial: Trial, runs: Sequence[Run]
) -> tuple[TrialProgress, str | None]:
    specs = () if runs else build_trial_specs(sweep, trial.values)
    reason = specs if isinstance(specs, str) else None
    objectives = sweep.spec.objectives
    trial_runs = [
        TrialRun(
            run, {o.metric: uow.metric_points.of_run(run.id, key=o.metric) for o in objectives}
        )
        for run in (runs if trial.ended is None else ())
    ]
    if trial.ended is not None:
        ended = trial.ended
        return TrialProgress(number=trial.number, evaluations=(), result=ended.result), reason
    return compute_trial_progress(trial, trial_runs, objectives, why=reason), reason


def _group_by_trial(runs: Iterable[Run]) -> dict[int, list[Run]]:
    by_trial: dict[int, list[Run]] = {}
    for run in runs:
        if run.lineage.trial is not None:
            by_trial.setdefault(run.lineage.trial, []).append(run)
    return by_trial
