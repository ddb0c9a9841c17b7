"""Repeats a distilled run and its baseline with further seeds; existing pairs count.

Requests are not stored: a repeated request finds the pairs of the first and launches none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from configs.derived_specs import is_distilled, seedless_digest
from configs.spec.base import TeacherControl
from configs.spec.run import RunSpec
from service.domain.access import Caller
from service.domain.baselines import NothingToRepeat, choose_new_seeds, is_viable
from service.domain.planning.findings import raise_for_errors
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run, truncate_with_suffix
from service.usecases.baselines.controls import add_controls, find_control_kinds
from service.usecases.baselines.lookup import get_dataset_digest, look_up_baseline
from service.usecases.context import Context
from service.usecases.projects import limit_priority
from service.usecases.runs.enqueue import add_run, create_queued_run
from service.usecases.runs.plan import PlanOptions, plan_spec
from service.usecases.runs.queries import get_run

_MAX_FIRST_SEED = 2**31 - 1 - 64
"""Seeds are at most 2^31 - 1: runs with a larger seed than this are repeated from here on."""

_SEED_IN_NAME = re.compile(r", seed \d+$")


@dataclass(frozen=True)
class SeedPair:
    """A distilled run and its baseline with the same seed."""

    seed: int
    run: Run
    baseline: Run
    is_new: bool
    """Whether the run was launched by this request."""


def repeat_run(
    run_id: str,
    *,
    seeds: int,
    pack: bool | None,
    controls: tuple[TeacherControl, ...] = (),
    caller: Caller,
    ctx: Context,
) -> list[SeedPair]:
    """Launch the pairs that are missing to `seeds` pairs of a run; returns all pairs by seed.

    Each pair gets these `controls` and those that the run has. `pack`: whether each new pair
    trains in one process; `None` keeps the mode of the run itself.
    Raises `NothingToRepeat` if the run has no pair to repeat, and `SpecRefused` if its spec is no
    longer valid.
    """
    run = get_run(run_id, ctx=ctx)
    spec = _repeatable_spec(run, ctx=ctx)
    is_packed = (run.lineage.sweep_id is None and run.pack.size > 1) if pack is None else pack
    options = PlanOptions(run.project, pack=is_packed, controls=controls)
    plan = plan_spec(spec, options, caller=caller, ctx=ctx)
    raise_for_errors(plan.findings)
    with ctx.queue_transaction() as uow:
        uow.runs.lock_inserts()
        pairs = _find_pairs(uow, run)
        # An admin may have given the run a larger priority than the caller may.
        priority = limit_priority(uow, run.queue.priority, project=run.project, caller=caller)
        first = min(spec.seed, _MAX_FIRST_SEED)
        for seed in choose_new_seeds(first, wanted=seeds, existing=[pair.seed for pair in pairs]):
            repeated = spec.model_copy(update={"seed": seed})
            copy = _copy_with_spec(run, repeated, priority=priority, ctx=ctx)
            launched = add_run(
                uow,
                copy,
                actor=caller.name,
                details=f"Repeats run {run.id} ({run.name}) with seed {seed}.",
                lookup=look_up_baseline(uow, repeated, project=run.project),
                is_packed=is_packed,
            )
            baseline = uow.runs.get(launched.lineage.baseline_run_id or "")
            pairs.append(SeedPair(seed, launched, baseline, is_new=True))
        _add_missing_controls(uow, spec, pairs, controls, caller=caller, ctx=ctx)
    return sorted(pairs, key=lambda pair: pair.seed)


def _add_missing_controls(
    uow: UnitOfWork,
    spec: RunSpec,
    pairs: Sequence[SeedPair],
    controls: Sequence[TeacherControl],
    *,
    caller: Caller,
    ctx: Context,
) -> None:
    digest = get_dataset_digest(uow, spec)
    if digest is None:
        return
    project = pairs[0].run.project
    existing = find_control_kinds(uow, spec, project=project, dataset_digest=digest)
    kinds = tuple(dict.fromkeys((*existing, *controls)))
    for pair in pairs:
        add_controls(
            uow,
            pair.run,
            kinds,
            dataset_digest=digest,
            actor=caller.name,
            at=ctx.clock.now(),
        )


def _repeatable_spec(run: Run, *, ctx: Context) -> RunSpec:
    """The spec of a run with a baseline to repeat, or `NothingToRepeat`."""
    spec = run.spec
    if not isinstance(spec, RunSpec):
        raise NothingToRepeat(run.id, f"it does not train, its task is {run.task}.")
    with ctx.store.snapshot() as uow:
        if not is_distilled(spec):
            raise NothingToRepeat(run.id, _explain_not_distilled(uow, run))
        if run.lineage.baseline_run_id is None:
            reason = "it was launched without a baseline. Launch it again without --no-baseline."
            raise NothingToRepeat(run.id, reason)
        for member in (run, uow.runs.get(run.lineage.baseline_run_id)):
            if not is_viable(member):
                subject = "it" if member is run else f"its baseline, run {member.id},"
                advice = f"Run `tandem retry {member.id}`, then repeat."
                state = "being cancelled" if not member.is_over else member.state
                raise NothingToRepeat(run.id, f"{subject} is {state}. {advice}")
        digest = get_dataset_digest(uow, spec)
    stored_digest = run.lineage.seedless_digest
    if digest is not None and seedless_digest(spec, dataset_digest=digest) != stored_digest:
        reason = (
            "its dataset has changed, or an older version launched it, so new runs could not be "
            "compared with it. Launch the run again."
        )
        raise NothingToRepeat(run.id, reason)
    return spec


def _explain_not_distilled(uow: UnitOfWork, run: Run) -> str:
    distilled = uow.baselines.find_distilled_run(run.id)
    if distilled is None:
        return "it has no teacher, so there is nothing to compare."
    return f"it is a baseline. Use `tandem repeat {distilled}` to repeat it with its distilled run."


def _find_pairs(uow: UnitOfWork, run: Run) -> list[SeedPair]:
    """Existing pairs, finished or not, with the run's own pair in place of an equal run's."""
    all_pairs = uow.baselines.find_pairs(
        run.lineage.seedless_digest or "", project=run.project, are_over=False
    )
    own = (run, uow.runs.get(run.lineage.baseline_run_id or ""))
    own_digest = run.lineage.spec_digest
    other_pairs = [pair for pair in all_pairs if pair[0].lineage.spec_digest != own_digest]
    return [
        SeedPair(distilled.spec.seed, distilled, baseline, is_new=False)
        for distilled, baseline in (own, *other_pairs)
        if isinstance(distilled.spec, RunSpec)
    ]


def _copy_with_spec(run: Run, spec: RunSpec, *, priority: int, ctx: Context) -> Run:
    """A new queued run with this spec, in the run's project, named by the seed."""
    name = truncate_with_suffix(_SEED_IN_NAME.sub("", run.name), f", seed {spec.seed}")
    queued = create_queued_run(
        spec, name=name, project=run.project, priority=priority, at=ctx.clock.now()
    )
    return replace(queued, preset=run.preset)
