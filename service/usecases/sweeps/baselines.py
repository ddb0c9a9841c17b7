"""Baselines of a sweep's runs, reused or enqueued."""

from collections.abc import Iterable
from dataclasses import replace

from configs.derived_specs import baseline_spec, seedless_digest
from configs.spec.run import RunSpec
from service.domain.baselines import choose_new_seeds, is_viable
from service.domain.sweeps import Sweep
from service.usecases.baselines.lookup import get_dataset_digest, look_up_baseline
from service.usecases.context import Context
from service.usecases.runs.enqueue import add_run, create_queued_run


def enqueue_baselines(
    base: RunSpec, seeds: Iterable[int], *, sweep: Sweep, ctx: Context
) -> dict[int, str]:
    """Reuse or enqueue the baseline of `base` for each seed; returns run ids by seed.

    Idempotent: after an interruption another call finds the baselines of the first one.
    """
    now = ctx.clock.now()
    run_ids: dict[int, str] = {}
    with ctx.store.transaction() as uow:
        uow.runs.lock_inserts()
        for seed in seeds:
            spec = baseline_spec(base.model_copy(update={"seed": seed}))
            lookup = look_up_baseline(uow, spec, project=sweep.project)
            if lookup.reusable is not None:
                run_ids[seed] = lookup.reusable.id
            else:
                queued = create_queued_run(
                    spec,
                    name=f"{sweep.name[:160]}, baseline, seed {seed}",
                    project=sweep.project,
                    priority=sweep.priority,
                    at=now,
                )
                sweep_run = replace(
                    queued,
                    lineage=replace(queued.lineage, sweep_id=sweep.id),
                    pack=replace(queued.pack, size=sweep.pack_size),
                )
                details = (
                    f"Launched as a baseline of sweep {sweep.id} ({sweep.name}), for runs with "
                    f"seed {seed} and for the noise floor."
                )
                run_ids[seed] = add_run(uow, sweep_run, actor="service", details=details).id
    return run_ids


def find_missing_noise_seeds(
    base: RunSpec, wanted: int, *, project: str, ctx: Context
) -> list[int]:
    """Seeds of the baselines that are missing to `wanted` baselines of this student.

    Queued and running baselines count. New seeds continue from the seed of `base`.
    """
    spec = baseline_spec(base)
    with ctx.store.snapshot() as uow:
        digest = get_dataset_digest(uow, spec)
        candidates = (
            []
            if digest is None
            else uow.baselines.find_seeds(
                seedless_digest(spec, dataset_digest=digest), project=project
            )
        )
    existing = {
        run.spec.seed for run in candidates if is_viable(run) and isinstance(run.spec, RunSpec)
    }
    return choose_new_seeds(base.seed, wanted=wanted, existing=existing)
