"""A distilled run and its baseline with further seeds: what is there counts, the rest is launched.

Nothing is remembered of a request: whoever asks again finds the same pairs, and launches none.
"""

import re
from dataclasses import dataclass, replace

from configs.derived_specs import family_digest, is_taught
from configs.spec.run import RunSpec
from service.domain.access import Caller
from service.domain.baselines import NothingToRepeat, further_seeds, is_sound
from service.domain.errors import FieldFault, SpecRefused
from service.domain.repositories.unit_of_work import Unit
from service.domain.runs import Run, name_with_ending
from service.usecases.baselines.lookup import dataset_digest_of
from service.usecases.context import World
from service.usecases.runs.enqueue import add_run, queued_run
from service.usecases.runs.plan import plan_spec
from service.usecases.runs.queries import show_run

_LAST_FIRST_SEED = 2**31 - 1 - 64
"""Seeds end at 2^31 - 1: a run with a later one is repeated with seeds from here on."""

_SEED_IN_NAME = re.compile(r", seed \d+$")


@dataclass(frozen=True)
class RepeatedPair:
    """A distilled run and its baseline, both with one seed."""

    seed: int
    run: Run
    baseline: Run
    is_new: bool
    """Whether the run was launched by this request."""


def repeat_run(
    run_id: str, *, seeds: int, pack: bool | None, caller: Caller, world: World
) -> list[RepeatedPair]:
    """Launch what is missing to `seeds` pairs of a run; all of its pairs, by seed.

    `pack`: whether each new pair trains in one process; none: as the run itself was launched.
    Raises `NothingToRepeat` for a run that cannot be, and `SpecRefused` if it cannot run any more.
    """
    run = show_run(run_id, world=world)
    spec = _repeatable_spec(run, world=world)
    is_packed = (run.sweep_id is None and run.pack_size > 1) if pack is None else pack
    plan = plan_spec(spec, project=run.project, pack=is_packed, caller=caller, world=world)
    if plan.errors:
        raise SpecRefused([FieldFault(f.field, f.code, f.message) for f in plan.errors])
    with world.store.begin() as unit:
        unit.runs.alone()
        pairs = _pairs_of(unit, run)
        first = min(spec.seed, _LAST_FIRST_SEED)
        for seed in further_seeds(first, wanted=seeds, have=[pair.seed for pair in pairs]):
            copy = _copy_of(run, spec.model_copy(update={"seed": seed}), world=world)
            launched = add_run(
                unit,
                copy,
                actor=caller.name,
                details=f"Repeats run {run.id} ({run.name}) with seed {seed}.",
                has_twin=True,
                is_packed=is_packed,
            )
            baseline = unit.runs.get(launched.baseline_run_id or "")
            pairs.append(RepeatedPair(seed, launched, baseline, is_new=True))
    return sorted(pairs, key=lambda pair: pair.seed)


def _repeatable_spec(run: Run, *, world: World) -> RunSpec:
    """The spec of a run that has a pair to be repeated."""
    spec = run.spec
    if not isinstance(spec, RunSpec):
        raise NothingToRepeat(run.id, f"it does not train, its task is {run.task}.")
    with world.store.begin() as unit:
        if not is_taught(spec):
            raise NothingToRepeat(run.id, _why_not_alone(unit, run))
        if run.baseline_run_id is None:
            why = "it was launched without a baseline. Launch it again without --no-baseline."
            raise NothingToRepeat(run.id, why)
        for member in (run, unit.runs.get(run.baseline_run_id)):
            if not is_sound(member):
                which = "it" if member is run else f"its baseline, run {member.id},"
                ending = f"`tandem retry {member.id}` has that tried again; then repeat."
                state = "to be cancelled" if not member.is_over else member.state
                raise NothingToRepeat(run.id, f"{which} is {state}. {ending}")
        digest = dataset_digest_of(unit, spec)
    if digest is not None and family_digest(spec, dataset_digest=digest) != run.family_digest:
        why = (
            "its dataset is not the one that it was launched with, or an older version launched "
            "it, so new runs could not be compared with it. Launch the run again."
        )
        raise NothingToRepeat(run.id, why)
    return spec


def _why_not_alone(unit: Unit, run: Run) -> str:
    taught = unit.twins.taught_beside(run.id)
    if taught is None:
        return "it has no teacher, so there is nothing to compare."
    return f"it is a baseline. `tandem repeat {taught}` repeats it and what is compared with it."


def _pairs_of(unit: Unit, run: Run) -> list[RepeatedPair]:
    """The pairs that are there or under way, the run's own in place of an equal run's."""
    family = unit.twins.pairs(run.family_digest or "", project=run.project, are_over=False)
    own = (run, unit.runs.get(run.baseline_run_id or ""))
    others = [pair for pair in family if pair[0].spec_digest != run.spec_digest]
    return [
        RepeatedPair(taught.spec.seed, taught, alone, is_new=False)
        for taught, alone in (own, *others)
        if isinstance(taught.spec, RunSpec)
    ]


def _copy_of(run: Run, spec: RunSpec, *, world: World) -> Run:
    """A new run with this spec in the run's place of the queue, named after it and the seed."""
    name = name_with_ending(_SEED_IN_NAME.sub("", run.name), f", seed {spec.seed}")
    queued = queued_run(
        spec, name=name, project=run.project, priority=run.priority, at=world.clock.now()
    )
    return replace(queued, preset=run.preset)
