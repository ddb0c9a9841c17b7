"""Twins: the same student, seed and batches without a teacher. Which run is one, and its name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from configs.derived_specs import (
    baseline_spec,
    is_distilled,
    seed_group_key,
    seedless_digest,
    spec_digest,
)
from configs.spec.run import RunSpec
from service.domain.errors import Conflict
from service.domain.runs import Run, truncate_with_suffix
from service.domain.states import RunState

BaselineMode = Literal["auto", "off"]
"""Whether a taught run is to have a twin."""

_ALONE = ", student alone"
_LOST = (RunState.FAILED, RunState.CANCELLED)


class NothingToRepeat(Conflict):
    """A run that cannot be trained again with other seeds and compared."""

    code = "nothing_to_repeat"
    advice = "Repeat a distilled run that has a baseline; `tandem show RUN` says whether it has."

    def __init__(self, run_id: str, why: str) -> None:
        super().__init__(f"Run {run_id} cannot be repeated: {why}")


@dataclass(frozen=True)
class PlannedBaseline:
    """The twin that a run would have."""

    run: Run | None
    """One that is there; none: it would be booked."""


def needs_baseline(spec: object, mode: BaselineMode) -> bool:
    """Whether a run with this spec is to have a twin."""
    return mode == "auto" and isinstance(spec, RunSpec) and is_distilled(spec)


def with_digests(run: Run, *, dataset_digest: str) -> Run:
    """The run with what equal ones are found by; a job's spec has none."""
    if not isinstance(run.spec, RunSpec):
        return run
    return replace(
        run,
        spec_digest=spec_digest(run.spec, dataset_digest=dataset_digest),
        seedless_digest=seedless_digest(run.spec, dataset_digest=dataset_digest),
        seed_group_key=seed_group_key(run.spec, dataset_digest=dataset_digest),
    )


def baseline_digest(spec: RunSpec, *, dataset_digest: str) -> str:
    """What the twins of a run are found by."""
    return spec_digest(baseline_spec(spec), dataset_digest=dataset_digest)


def choose_baseline(equal: Sequence[Run]) -> Run | None:
    """The one to compare with: of those that have not ended badly one that succeeded, the oldest.

    A sweep's trial counts only when it has succeeded: its scheduler may stop it before.
    """
    sound = [run for run in equal if is_sound(run)]
    succeeded = [run for run in sound if run.state is RunState.SUCCEEDED]
    under_way = [run for run in sound if run.trial is None]
    return next(iter(succeeded or under_way), None)


def is_sound(run: Run) -> bool:
    """Whether a run has not ended badly and is not asked to."""
    return run.state is RunState.SUCCEEDED or (
        run.state not in _LOST and run.desired != "cancelled"
    )


def make_baseline(run: Run, spec: RunSpec, *, run_id: str, at: datetime) -> Run:
    """A new run beside `run`: the student of `spec` alone, in the same place of the queue."""
    return Run(
        id=run_id,
        name=truncate_with_suffix(run.name, _ALONE),
        preset=None,
        spec=baseline_spec(spec),
        state=RunState.QUEUED,
        created_at=at,
        updated_at=at,
        project=run.project,
        priority=run.priority,
    )


def choose_new_seeds(first: int, *, wanted: int, existing: Iterable[int]) -> list[int]:
    """Seeds from `first` up that are not there yet, as many as are missing to `wanted`."""
    known = set(existing)
    missing: list[int] = []
    seed = first
    while len(known) + len(missing) < wanted:
        if seed not in known:
            missing.append(seed)
        seed += 1
    return missing
