"""How much seeds alone matter: asked of all runs of a project that scatter alike, every time.

Nothing of it is stored. Runs of one student, dataset and schedule scatter alike over seeds, whoever
teaches them, so each run that succeeds sharpens the answer for all of them, baselines that were
booked for another run or sweep included.
"""

from collections import defaultdict
from dataclasses import dataclass

from configs.derived_specs import noise_key
from configs.protocol.report import NoiseFloor
from configs.seed_noise import noise_floor
from configs.spec.run import RunSpec
from service.domain.repositories.unit_of_work import Unit
from service.usecases.baselines.lookup import dataset_digest_of
from service.usecases.context import World


@dataclass(frozen=True)
class Noise:
    """How much runs like one differ by their seed alone."""

    floor: NoiseFloor | None
    """None: no two runs differ in their seed alone yet."""

    run_ids: tuple[str, ...]
    """What it rests on: all that succeeded, oldest first."""


def noise_of_run(run_id: str, *, world: World) -> Noise:
    """The noise of runs like this one; of a run of old times, or a job, nothing is known."""
    with world.store.begin() as unit:
        run = unit.runs.get(run_id)
        if run.noise_key is None:
            return Noise(None, ())
        return noise_of(unit, run.noise_key, project=run.project)


def noise_of_spec(unit: Unit, spec: RunSpec, *, project: str) -> Noise:
    """The noise of runs with this spec, of which there may be none yet."""
    digest = dataset_digest_of(unit, spec)
    if digest is None:
        return Noise(None, ())
    return noise_of(unit, noise_key(spec, dataset_digest=digest), project=project)


def noise_of(unit: Unit, key: str, *, project: str) -> Noise:
    """Best mAPs of runs with this key, grouped by what differs in nothing but the seed."""
    groups: dict[str, list[float]] = defaultdict(list)
    scores = unit.twins.scores(key, project=project)
    for score in scores:
        groups[score.family].append(score.best_map)
    return Noise(noise_floor(list(groups.values())), tuple(score.run_id for score in scores))
