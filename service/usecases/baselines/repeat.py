"""A distilled run and its baseline with further seeds: what is there counts, the rest is launched.

Nothing is remembered of a request: whoever asks again finds the same pairs, and launches none.
"""

import re
from dataclasses import dataclass, replace

from configs.derived_specs import is_distilled, seedless_digest
from configs.spec.run import RunSpec
from service.domain.access import Caller
from service.domain.baselines import NothingToRepeat, choose_new_seeds, is_sound
from service.domain.errors import FieldError, SpecRefused
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run, truncate_with_suffix
from service.usecases.baselines.lookup import get_dataset_digest
from service.usecases.context import Context
from service.usecases.runs.enqueue import add_run, create_queued_run
from service.usecases.runs.plan import plan_spec
from service.usecases.runs.queries import get_run

_LAST_FIRST_SEED = 2**31 - 1 - 64
"""Seeds end at 2^31 - 1: a run with a later one is repeated with seeds from here on."""

_SEED_IN_NAME = re.compile(r", seed \d+$")


@dataclass(frozen=True)
class SeedPair:
    """A distilled run and its baseline, both with one seed."""

    seed: int
    run: Run
    baseline: Run
    is_new: bool
    """Whether the run was launched by this request."""


def repeat_run(
    run_id: str, *, seeds: int, pack: bool | None, caller: Caller, ctx: Context
) -> list[SeedPair]:
    """Launch what is missing to `seeds` pairs of a run; all of its pairs, by seed.

    `pack`: whether each new pair trains in one process; none: as the run itself was launched.
    Raises `NothingToRepeat` for a run that cannot be, and `SpecRefused` if it cannot run any more.
    """
    run = get_run(run_id, ctx=ctx)
    spec = _repeatable_spec(run, ctx=ctx)
    is_packed = (run.sweep_id is None and run.pack_size > 1) if pack is None else pack
    plan = plan_spec(spec, project=run.project, pack=is_packed, caller=caller, ctx=ctx)
    if plan.errors:
        raise SpecRefused([FieldError(f.field, f.code, f.message) for f in plan.errors])
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        pairs = _pairs_of(uow, run)
        first = min(spec.seed, _LAST_FIRST_SEED)
        for seed in choose_new_seeds(first, wanted=seeds, existing=[pair.seed for pair in pairs]):
            copy = _copy_of(run, spec.model_copy(update={"seed": seed}), ctx=ctx)
            launched = add_run(
                uow,
                copy,
                actor=caller.name,
                details=f"Repeats run {run.id} ({run.name}) with seed {seed}.",
                has_baseline=True,
                is_packed=is_packed,
            )
            baseline = uow.runs.get(launched.baseline_run_id or "")
            pairs.append(SeedPair(seed, launched, baseline, is_new=True))
    return sorted(pairs, key=lambda pair: pair.seed)


def _repeatable_spec(run: Run, *, ctx: Context) -> RunSpec:
    """The spec of a run that has a pair to be repeated."""
    spec = run.spec
    if not isinstance(spec, RunSpec):
        raise NothingToRepeat(run.id, f"it does not train, its task is {run.task}.")
    with ctx.store.transaction() as uow:
        if not is_distilled(spec):
            raise NothingToRepeat(run.id, _why_not_alone(uow, run))
        if run.baseline_run_id is None:
            why = "it was launched without a baseline. Launch it again without --no-baseline."
            raise NothingToRepeat(run.id, why)
        for member in (run, uow.runs.get(run.baseline_run_id)):
            if not is_sound(member):
                which = "it" if member is run else f"its baseline, run {member.id},"
                ending = f"`tandem retry {member.id}` has that tried again; then repeat."
                state = "to be cancelled" if not member.is_over else member.state
                raise NothingToRepeat(run.id, f"{which} is {state}. {ending}")
        digest = get_dataset_digest(uow, spec)
    if digest is not None and seedless_digest(spec, dataset_digest=digest) != run.seedless_digest:
        why = (
            "its dataset is not the one that it was launched with, or an older version launched "
            "it, so new runs could not be compared with it. Launch the run again."
        )
        raise NothingToRepeat(run.id, why)
    return spec


def _why_not_alone(uow: UnitOfWork, run: Run) -> str:
    taught = uow.baselines.find_distilled_run(run.id)
    if taught is None:
        return "it has no teacher, so there is nothing to compare."
    return f"it is a baseline. `tandem repeat {taught}` repeats it and what is compared with it."


def _pairs_of(uow: UnitOfWork, run: Run) -> list[SeedPair]:
    """The pairs that are there or under way, the run's own in place of an equal run's."""
    family = uow.baselines.find_pairs(
        run.seedless_digest or "", project=run.project, are_over=False
    )
    own = (run, uow.runs.get(run.baseline_run_id or ""))
    others = [pair for pair in family if pair[0].spec_digest != run.spec_digest]
    return [
        SeedPair(taught.spec.seed, taught, alone, is_new=False)
        for taught, alone in (own, *others)
        if isinstance(taught.spec, RunSpec)
    ]


def _copy_of(run: Run, spec: RunSpec, *, ctx: Context) -> Run:
    """A new run with this spec in the run's place of the queue, named after it and the seed."""
    name = truncate_with_suffix(_SEED_IN_NAME.sub("", run.name), f", seed {spec.seed}")
    queued = create_queued_run(
        spec, name=name, project=run.project, priority=run.priority, at=ctx.clock.now()
    )
    return replace(queued, preset=run.preset)
