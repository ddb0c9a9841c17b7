"""Seed noise, computed on request from all runs of a project with one seed group key.

Nothing is stored. Runs of one student, dataset and schedule have the same variance over seeds
whatever their teacher, so each succeeded run improves the estimate for all of them, including
baselines of other runs and sweeps.
"""

from collections import defaultdict
from dataclasses import dataclass

from configs.derived_specs import seed_group_key
from configs.protocol.comparison import NoiseFloor
from configs.seed_noise import noise_floor
from configs.spec.run import RunSpec
from service.domain.repositories.unit_of_work import UnitOfWork
from service.usecases.baselines.lookup import get_dataset_digest
from service.usecases.context import Context


@dataclass(frozen=True)
class SeedNoise:
    """Variation of mAP between runs that differ in their seed alone."""

    floor: NoiseFloor | None
    """`None` until two runs differ in their seed alone."""

    run_ids: tuple[str, ...]
    """The succeeded runs of the estimate, oldest first."""


def get_run_noise(run_id: str, *, ctx: Context) -> SeedNoise:
    """The noise of runs like this one; empty for jobs, and for runs without a seed group key."""
    with ctx.store.snapshot() as uow:
        run = uow.runs.get(run_id)
        if run.lineage.seed_group_key is None:
            return SeedNoise(None, ())
        return compute_noise(uow, run.lineage.seed_group_key, project=run.project)


def compute_spec_noise(uow: UnitOfWork, spec: RunSpec, *, project: str) -> SeedNoise:
    """The noise of runs with this spec; no such run needs to exist."""
    digest = get_dataset_digest(uow, spec)
    return compute_dataset_noise(uow, spec, dataset_digest=digest, project=project)


def compute_dataset_noise(
    uow: UnitOfWork, spec: RunSpec, *, dataset_digest: str | None, project: str
) -> SeedNoise:
    """The noise of runs with this spec on the dataset with this digest; empty without one."""
    if dataset_digest is None:
        return SeedNoise(None, ())
    return compute_noise(uow, seed_group_key(spec, dataset_digest=dataset_digest), project=project)


def compute_noise(uow: UnitOfWork, key: str, *, project: str) -> SeedNoise:
    """The noise of runs with a seed group key, from their best mAPs grouped by seedless digest."""
    groups: dict[str, list[float]] = defaultdict(list)
    scores = uow.baselines.find_scores(key, project=project)
    for score in scores:
        groups[score.seedless_digest].append(score.best_map)
    return SeedNoise(noise_floor(list(groups.values())), tuple(score.run_id for score in scores))
