"""The twins of a sweep's runs: there already, or booked for it."""

from collections.abc import Iterable
from dataclasses import replace

from configs.derived_specs import baseline_spec, seedless_digest
from configs.spec.run import RunSpec
from service.domain.baselines import choose_new_seeds, is_sound
from service.domain.sweeps import Sweep
from service.usecases.baselines.lookup import find_reusable_baseline, get_dataset_digest
from service.usecases.context import Context
from service.usecases.runs.enqueue import add_run, create_queued_run


def enqueue_baselines(
    base: RunSpec, seeds: Iterable[int], *, sweep: Sweep, ctx: Context
) -> dict[int, str]:
    """By seed the run of `base` without its teacher: reused, or booked for the sweep.

    Called again it finds what it has booked, so whoever was killed in between calls it again.
    """
    now = ctx.clock.now()
    found: dict[int, str] = {}
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        for seed in seeds:
            spec = baseline_spec(base.model_copy(update={"seed": seed}))
            twin = find_reusable_baseline(uow, spec, project=sweep.project)
            if twin is None:
                queued = create_queued_run(
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
                twin = add_run(uow, made, actor="service", details=why)
            found[seed] = twin.id
    return found


def find_missing_noise_seeds(
    base: RunSpec, wanted: int, *, project: str, ctx: Context
) -> list[int]:
    """Which further seeds' baselines are needed so that there are `wanted` of this student.

    Those that run or wait count as well; the seeds go on from the base's.
    """
    alone = baseline_spec(base)
    with ctx.store.transaction() as uow:
        digest = get_dataset_digest(uow, alone)
        family = (
            []
            if digest is None
            else uow.baselines.find_by_seedless_digest(
                seedless_digest(alone, dataset_digest=digest), project=project
            )
        )
    have = {run.spec.seed for run in family if is_sound(run) and isinstance(run.spec, RunSpec)}
    return choose_new_seeds(base.seed, wanted=wanted, existing=have)
