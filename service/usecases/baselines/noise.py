"""How much seeds alone matter: asked of all runs of a project that scatter alike, every time.

Nothing of it is stored. Runs of one student, dataset and schedule scatter alike over seeds, whoever
teaches them, so each run that succeeds sharpens the answer for all of them, baselines that were
booked for another run or sweep included.
"""

from collections import defaultdict
from dataclasses import dataclass

from configs.derived_specs import seed_group_key
from configs.protocol.report import NoiseFloor
from configs.seed_noise import noise_floor
from configs.spec.run import RunSpec
from service.domain.repositories.unit_of_work import UnitOfWork
from service.usecases.baselines.lookup import get_dataset_digest
from service.usecases.context import Context


@dataclass(frozen=True)
class SeedNoise:
    """How much runs like one differ by their seed alone."""

    floor: NoiseFloor | None
    """None: no two runs differ in their seed alone yet."""

    run_ids: tuple[str, ...]
    """What it rests on: all that succeeded, oldest first."""


def get_run_noise(run_id: str, *, ctx: Context) -> SeedNoise:
    """The noise of runs like this one; of a run of old times, or a job, nothing is known."""
    with ctx.store.transaction() as uow:
        run = uow.runs.get(run_id)
        if run.seed_group_key is None:
            return SeedNoise(None, ())
        return compute_noise(uow, run.seed_group_key, project=run.project)


def compute_spec_noise(uow: UnitOfWork, spec: RunSpec, *, project: str) -> SeedNoise:
    """The noise of runs with this spec, of which there may be none yet."""
    digest = get_dataset_digest(uow, spec)
    if digest is None:
        return SeedNoise(None, ())
    return compute_noise(uow, seed_group_key(spec, dataset_digest=digest), project=project)


def compute_noise(uow: UnitOfWork, key: str, *, project: str) -> SeedNoise:
    """Best mAPs of runs with this key, grouped by what differs in nothing but the seed."""
    groups: dict[str, list[float]] = defaultdict(list)
    scores = uow.baselines.find_scores(key, project=project)
    for score in scores:
        groups[score.seedless_digest].append(score.best_map)
    return SeedNoise(noise_floor(list(groups.values())), tuple(score.run_id for score in scores))
