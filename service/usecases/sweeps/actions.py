"""Actions on existing sweeps: stop, extend, promote a trial to a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import JsonValue

from configs.catalog import SpecError, apply_changes
from configs.protocol.sweep_log import SweepEntry, SweepExtended, Trial, active_spec, replay_trials
from configs.spec.search import RATIO
from configs.spec.sweep import Budget, SweepSpec
from service.domain.access import Caller
from service.domain.errors.base import FieldError
from service.domain.errors.conflicts import InvalidSweepTransition, NothingToPromote
from service.domain.errors.requests import SpecRefused
from service.domain.planning.findings import list_errors
from service.domain.planning.sweep_findings import sweep_findings
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.sweeps import Sweep, SweepState, transition_sweep
from service.domain.trials import best_trial
from service.usecases.context import Context
from service.usecases.runs.launch import launch_run
from service.usecases.runs.plan import LaunchRun, to_spec_refused
from service.usecases.sweeps.launch import validate_sweep_spec
from service.usecases.sweeps.trials import build_trial_specs, cancel_runs, compute_gpu_hours

_MAX_TRIALS = 10_000


@dataclass(frozen=True)
class SweepExtension:
    """Additional budget, or another space or algorithm, for a finished sweep."""

    trials: int | None = None
    """Additional trials; `None` keeps the limit of the last budget."""

    hours: float | None = None
    gpu_hours: float | None = None
    space: dict[str, JsonValue] | None = None
    algorithm: dict[str, JsonValue] | None = None


@dataclass(frozen=True)
class TrialPromotion:
    """Request to train a trial's spec as an independent run."""

    trial: int | None = None
    """`None` selects the best trial."""

    changes: dict[str, JsonValue] = field(default_factory=dict)
    name: str | None = None
    priority: int = 0
    digest: str = ""


def stop_sweep(sweep_id: str, *, caller: Caller, ctx: Context) -> Sweep:
    """Stop a sweep: start no more trials and cancel unfinished runs, keeping their results.

    Baselines that runs outside of the sweep are compared with continue. Raises
    `InvalidSweepTransition` for a finished sweep.
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
        reason = f"Sweep {sweep.id} was stopped by {caller.name}."
        external_baseline_ids = uow.baselines.find_external_baselines(sweep.id)
        runs = [run for run in uow.runs.of_sweep(sweep.id) if run.id not in external_baseline_ids]
        cancel_runs(uow, runs, reason=reason, at=now)
        return stopped


def extend_sweep(
    sweep_id: str, extension: SweepExtension, *, caller: Caller, ctx: Context
) -> Sweep:
    """Resume the search of a finished sweep with more budget, another space or algorithm.

    Raises `InvalidSweepTransition` for an unfinished sweep or one without a search, and
    `SpecRefused` if the extension is invalid or adds no trials.
    """
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
        extended = replace(
            searching,
            desired="search",
            message="",
            consecutive_failures=0,
            not_before=now,
            report_run_id=None,
        )
        uow.sweeps.save(extended)
        return extended


def promote_trial(
    sweep_id: str, promotion: TrialPromotion, *, key: str | None, caller: Caller, ctx: Context
) -> tuple[Run, bool]:
    """Launch a trial's spec, with changes, as a run of the sweep's project; see `launch_run`.

    Raises `NothingToPromote` if there is no such trial, or its values give no valid spec.
    """
    with ctx.store.snapshot() as uow:
        sweep = uow.sweeps.get(sweep_id)
        trials = replay_trials(uow.sweeps.entries(sweep_id))
    trial = _select_trial(sweep, trials, promotion)
    specs = build_trial_specs(sweep, trial.values)
    if isinstance(specs, str):
        raise NothingToPromote(sweep.id, f"trial {trial.number} gives no valid spec: {specs}")
    try:
        document = apply_changes(specs[0].model_dump(mode="json"), promotion.changes)
    except SpecError as error:
        raise to_spec_refused(error) from error
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
    """The active spec after an extension; `SpecRefused` if it is invalid or adds no trials."""
    current = active_spec(sweep.spec, entries)
    document = current.model_dump(mode="json") | {"base": current.base}
    for name in ("space", "algorithm"):
        if (value := getattr(extension, name)) is not None:
            document[name] = value
    num_started = len(replay_trials(entries))
    budget = _extend_budget(
        current.budget,
        extension,
        num_started=num_started,
        hours=sweep.search_hours(now),
        gpu_hours=compute_gpu_hours(uow, sweep, now=now),
    )
    # The initial points were tried before, and need not lie within the new space.
    spec = validate_sweep_spec({**document, "budget": budget, "initial_points": ()})
    errors = list_errors(sweep_findings(spec))
    if RATIO in spec.space and sweep.probe is None:
        errors.append(FieldError("space", "not_probed", f"{RATIO} was not measured by a probe."))
    if num_started >= budget.trials:
        reason = f"{num_started} of {budget.trials} trials have started: allow additional ones."
        errors.append(FieldError("trials", "nothing_left", reason))
    if errors:
        raise SpecRefused(errors)
    return spec


def _extend_budget(
    current: Budget, extension: SweepExtension, *, num_started: int, hours: float, gpu_hours: float
) -> Budget:
    """The total budget: spent so far plus the extension; an omitted limit of time is lifted."""
    trials = current.trials if extension.trials is None else num_started + extension.trials
    return Budget(
        trials=min(trials, _MAX_TRIALS),
        hours=None if extension.hours is None else hours + extension.hours,
        gpu_hours=None if extension.gpu_hours is None else gpu_hours + extension.gpu_hours,
    )


def _select_trial(sweep: Sweep, trials: dict[int, Trial], promotion: TrialPromotion) -> Trial:
    if promotion.trial is not None:
        if promotion.trial not in trials:
            raise NothingToPromote(sweep.id, f"there is no trial {promotion.trial}.")
        return trials[promotion.trial]
    best = best_trial(trials.values(), sweep.spec.objectives[0])
    if best is None:
        raise NothingToPromote(sweep.id, "no trial has a value of its objective yet.")
    return best
