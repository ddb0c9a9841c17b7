"""What people want of a sweep that is there: stop, more of it, its best trial as a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import JsonValue

from configs.catalog import SpecError, apply_changes
from configs.protocol.sweep_log import SweepEntry, SweepExtended, Trial, active_spec, replay_trials
from configs.spec.search import RATIO
from configs.spec.sweep import Budget, SweepSpec
from service.domain.access import Caller
from service.domain.errors import FieldError, InvalidSweepTransition, NothingToPromote, SpecRefused
from service.domain.planning.sweep_findings import sweep_findings
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.sweeps import Sweep, SweepState, transition_sweep
from service.domain.trials import best_trial
from service.usecases.context import Context
from service.usecases.runs.launch import launch_run
from service.usecases.runs.plan import LaunchRun
from service.usecases.sweeps.launch import validate_sweep_spec
from service.usecases.sweeps.trials import build_trial_specs, cancel_runs, compute_gpu_hours

_MOST_TRIALS = 10_000


@dataclass(frozen=True)
class SweepExtension:
    """What a finished sweep is given to do."""

    trials: int | None = None
    """More of them."""

    hours: float | None = None
    gpu_hours: float | None = None
    space: dict[str, JsonValue] | None = None
    algorithm: dict[str, JsonValue] | None = None


@dataclass(frozen=True)
class TrialPromotion:
    """A trial to be trained as a run of its own."""

    trial: int | None = None
    """None: the best one."""

    changes: dict[str, JsonValue] = field(default_factory=dict)
    name: str | None = None
    priority: int = 0
    digest: str = ""


def stop_sweep(sweep_id: str, *, caller: Caller, ctx: Context) -> Sweep:
    """Begin no more trials and end those that go on; what they reached is kept.

    A baseline of the sweep that a run outside of it is compared with trains on.
    """
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get_for_update(sweep_id)
        if sweep.desired == "stop" or sweep.state is SweepState.REPORTING:
            return sweep
        if sweep.is_over:
            raise InvalidSweepTransition(sweep.id, sweep.state, SweepState.STOPPED)
        stopped = replace(sweep, desired="stop", message=f"Stopped by {caller.name}.")
        uow.sweeps.save(stopped)
        why = f"Sweep {sweep.id} was stopped by {caller.name}."
        kept = uow.baselines.find_external_baselines(sweep.id)
        runs = [run for run in uow.runs.of_sweep(sweep.id) if run.id not in kept]
        cancel_runs(uow, runs, why=why, at=now)
        return stopped


def extend_sweep(
    sweep_id: str, extension: SweepExtension, *, caller: Caller, ctx: Context
) -> Sweep:
    """Search on, with more trials, other bounds or another algorithm."""
    now = ctx.clock.now()
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get_for_update(sweep_id)
        entries = uow.sweeps.entries(sweep_id)
        searching = transition_sweep(sweep, SweepState.SEARCHING, at=now)
        if sweep.state is SweepState.FAILED and sweep.driver == 0:
            raise InvalidSweepTransition(sweep.id, sweep.state, SweepState.SEARCHING)
        spec = _extended_spec(uow, sweep, entries, extension, now=now)
        entry = SweepExtended(
            by=caller.name, budget=spec.budget, space=spec.space, algorithm=spec.algorithm
        )
        uow.sweeps.append(sweep_id, [entry], first=len(entries))
        again = replace(
            searching,
            desired="search",
            message="",
            consecutive_failures=0,
            not_before=now,
            report_run_id=None,
        )
        uow.sweeps.save(again)
        return again


def promote_trial(
    sweep_id: str, promotion: TrialPromotion, *, key: str | None, caller: Caller, ctx: Context
) -> tuple[Run, bool]:
    """Train a trial's spec, with changes, as an ordinary run of the sweep's project."""
    with ctx.store.transaction() as uow:
        sweep = uow.sweeps.get(sweep_id)
        trials = replay_trials(uow.sweeps.entries(sweep_id))
    trial = _promoted(sweep, trials, promotion)
    specs = build_trial_specs(sweep, trial.values)
    if isinstance(specs, str):
        raise NothingToPromote(sweep.id, f"trial {trial.number} gives no valid spec: {specs}")
    try:
        document = apply_changes(specs[0].model_dump(mode="json"), promotion.changes)
    except SpecError as error:
        faults = [
            FieldError(problem.field, "invalid", problem.message) for problem in error.problems
        ]
        raise SpecRefused(faults) from error
    request = LaunchRun(
        spec=document,
        name=promotion.name or f"{sweep.name} #{trial.number} promoted"[-200:],
        project=sweep.project,
        priority=promotion.priority,
        digest=promotion.digest,
    )
    return launch_run(request, key=key, caller=caller, ctx=ctx)


def _extended_spec(
    uow: UnitOfWork,
    sweep: Sweep,
    entries: Sequence[SweepEntry],
    extension: SweepExtension,
    *,
    now: datetime,
) -> SweepSpec:
    """The spec that is in force from now on; `SpecRefused` if it cannot be, or adds nothing."""
    before = active_spec(sweep.spec, entries)
    asked = before.model_dump(mode="json") | {"base": before.base}
    for name in ("space", "algorithm"):
        if (wanted := getattr(extension, name)) is not None:
            asked[name] = wanted
    begun = len(replay_trials(entries))
    budget = _budget(
        before.budget,
        extension,
        begun=begun,
        hours=sweep.search_hours(now),
        gpu_hours=compute_gpu_hours(uow, sweep, now=now),
    )
    # Values of the first trials are tried already, and need not fit other bounds.
    spec = validate_sweep_spec({**asked, "budget": budget, "first": ()})
    faults = [
        FieldError(found.field, found.code, found.message)
        for found in sweep_findings(spec)
        if found.severity == "error"
    ]
    if RATIO in spec.space and sweep.probe is None:
        faults.append(FieldError("space", "not_probed", f"{RATIO} was not measured by a probe."))
    if begun >= budget.trials:
        why = f"{begun} of {budget.trials} trials have begun: say how many more there may be."
        faults.append(FieldError("trials", "nothing_left", why))
    if faults:
        raise SpecRefused(faults)
    return spec


def _budget(
    before: Budget, extension: SweepExtension, *, begun: int, hours: float, gpu_hours: float
) -> Budget:
    """What may be spent in all: what was, and what is added; a limit that is not said ends."""
    trials = before.trials if extension.trials is None else begun + extension.trials
    return Budget(
        trials=min(trials, _MOST_TRIALS),
        hours=None if extension.hours is None else hours + extension.hours,
        gpu_hours=None if extension.gpu_hours is None else gpu_hours + extension.gpu_hours,
    )


def _promoted(sweep: Sweep, trials: dict[int, Trial], promotion: TrialPromotion) -> Trial:
    if promotion.trial is not None:
        if promotion.trial not in trials:
            raise NothingToPromote(sweep.id, f"there is no trial {promotion.trial}.")
        return trials[promotion.trial]
    best = best_trial(trials.values(), sweep.spec.objectives[0])
    if best is None:
        raise NothingToPromote(sweep.id, "no trial has told its objective yet.")
    return best
