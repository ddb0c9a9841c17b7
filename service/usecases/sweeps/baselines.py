"""The twins of a sweep's runs: there already, or booked for it."""

from collections.abc import Iterable
from dataclasses import replace

from configs.derived_specs import baseline_of, family_digest
from configs.spec.run import RunSpec
from service.domain.baselines import further_seeds, is_sound
from service.domain.sweeps import Sweep
from service.usecases.baselines.lookup import dataset_digest_of, reusable_twin
from service.usecases.context import World
from service.usecases.runs.enqueue import add_run, queued_run


def book_twins(
    base: RunSpec, seeds: Iterable[int], *, sweep: Sweep, world: World
) -> dict[int, str]:
    """By seed the run of `base` without its teacher: reused, or booked for the sweep.

    Called again it finds what it has booked, so whoever was killed in between calls it again.
    """
    now = world.clock.now()
    found: dict[int, str] = {}
    with world.store.begin() as unit:
        unit.runs.alone()
        for seed in seeds:
            spec = baseline_of(base.model_copy(update={"seed": seed}))
            twin = reusable_twin(unit, spec, project=sweep.project)
            if twin is None:
                queued = queued_run(
                    spec,
                    name=f"{sweep.name[:160]}, student alone, seed {seed}",
                    project=sweep.project,
                    priority=sweep.priority,
                    at=now,
                )
                made = replace(queued, sweep_id=sweep.id, pack_size=sweep.pack_size)
                why = (
                    f"Booked for sweep {sweep.id} ({sweep.name}): its runs with seed {seed} are "
                    "compared with this one, and it tells how much seeds alone matter."
                )
                twin = add_run(unit, made, actor="service", details=why)
            found[seed] = twin.id
    return found


def missing_noise_seeds(base: RunSpec, wanted: int, *, project: str, world: World) -> list[int]:
    """Which further seeds' baselines are needed so that there are `wanted` of this student.

    Those that run or wait count as well; the seeds go on from the base's.
    """
    alone = baseline_of(base)
    with world.store.begin() as unit:
        digest = dataset_digest_of(unit, alone)
        family = (
            []
            if digest is None
            else unit.twins.family(family_digest(alone, dataset_digest=digest), project=project)
        )
    have = {run.spec.seed for run in family if is_sound(run) and isinstance(run.spec, RunSpec)}
    return further_seeds(base.seed, wanted=wanted, have=have)
