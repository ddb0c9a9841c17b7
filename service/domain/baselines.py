"""Baselines: runs of the same student, seed and batches without a teacher; no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from configs.derived_specs import (
    baseline_spec,
    is_distilled,
    seed_group_key,
    seedless_digest,
    spec_digest,
    teacher_key,
)
from configs.spec.base import TeacherControl
from configs.spec.run import RunSpec
from service.domain.errors.conflicts import Conflict
from service.domain.runs import QueueEntry, Run, truncate_with_suffix
from service.domain.states import RunState
from service.domain.vocabulary import BaselineMode

_NAME_SUFFIX = ", baseline"
_LOST_STATES = (RunState.FAILED, RunState.CANCELLED)


class NothingToRepeat(Conflict):
    """A run cannot be trained again with other seeds and compared."""

    code = "nothing_to_repeat"
    advice = "Repeat a distilled run that has a baseline; `tandem show RUN` says whether it has."

    def __init__(self, run_id: str, why: str) -> None:
        super().__init__(f"Run {run_id} cannot be repeated: {why}")


@dataclass(frozen=True)
class PlannedBaseline:
    """The baseline that a run would have."""

    run: Run | None
    """An existing run; None if a new one would be queued."""


@dataclass(frozen=True)
class PlannedControl:
    """A control that a run would have."""

    kind: TeacherControl
    run: Run | None
    """An existing run; None if another one would be queued."""


def needs_baseline(spec: object, mode: BaselineMode) -> bool:
    return mode == "auto" and isinstance(spec, RunSpec) and is_distilled(spec)


def with_digests(run: Run, *, dataset_digest: str) -> Run:
    """The run with the digests by which equal runs are found; only training runs have them."""
    if not isinstance(run.spec, RunSpec):
        return run
    lineage = replace(
        run.lineage,
        spec_digest=spec_digest(run.spec, dataset_digest=dataset_digest),
        seedless_digest=seedless_digest(run.spec, dataset_digest=dataset_digest),
        seed_group_key=seed_group_key(run.spec, dataset_digest=dataset_digest),
        teacher_key=teacher_key(run.spec, dataset_digest=dataset_digest),
    )
    return replace(run, lineage=lineage)


def baseline_digest(spec: RunSpec, *, dataset_digest: str) -> str:
    """The `spec_digest` of the baselines of a run."""
    return spec_digest(baseline_spec(spec), dataset_digest=dataset_digest)


def is_viable(run: Run) -> bool:
    """Whether a run has succeeded, or may still do so and is not to be cancelled."""
    return run.state is RunState.SUCCEEDED or (
        run.state not in _LOST_STATES and run.desired != "cancelled"
    )


def compute_gain(run: Run, *, baseline_map: float | None) -> float | None:
    """Best mAP of a run minus that of its baseline. None until both have succeeded.

    `baseline_map` is None unless the run has a baseline, and it has succeeded.
    """
    if run.state is not RunState.SUCCEEDED or run.results.best_map is None or baseline_map is None:
        return None
    return run.results.best_map - baseline_map


def make_baseline(run: Run, spec: RunSpec, *, run_id: str, at: datetime) -> Run:
    """A queued run of the student of `spec` without its teacher, for comparison with `run`."""
    return Run(
        id=run_id,
        name=truncate_with_suffix(run.name, _NAME_SUFFIX),
        preset=None,
        spec=baseline_spec(spec),
        state=RunState.QUEUED,
        created_at=at,
        updated_at=at,
        project=run.project,
        queue=QueueEntry(priority=run.queue.priority),
    )


def choose_new_seeds(first: int, *, wanted: int, existing: Iterable[int]) -> list[int]:
    """As many seeds from `first` up as are missing to `wanted`, without those that exist."""
    used = set(existing)
    missing: list[int] = []
    seed = first
    while len(used) + len(missing) < wanted:
        if seed not in used:
            missing.append(seed)
        seed += 1
    return missing
