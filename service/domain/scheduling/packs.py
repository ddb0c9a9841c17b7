"""Which waiting runs train side by side: pure.

A pack is full, or nobody has come for a while: runs of one search come in quick succession, and one
that starts without the others pays for the teacher alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import combinations

from configs.derived_specs import can_share_teacher, pack_key
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.planning.findings import Finding, error, warning
from service.domain.runs import Run
from service.domain.scheduling.queue import QueuedRun, RunningRun

PACK_FILL_TIMEOUT_S = 15.0
"""After so long without a newcomer, a pack that is not full starts."""

MIN_MERGE_AGE_S = 600.0
"""Younger packs are not merged: what was just started is not stopped for little."""

MIN_REMAINING_TO_MERGE_S = 300.0
"""Packs that have less to do go on as they are: a new start costs its teacher's measurement too."""

PAIR_SIZE = 2
"""A run and its baseline."""

_COMING = "others of its pack, which may come within seconds"


def group_into_packs(waiting: Sequence[QueuedRun], *, now: datetime) -> list[QueuedRun]:
    """The same runs, those that can train side by side as one: its oldest, and the rest beside."""
    packs: list[list[QueuedRun]] = []
    rest: list[QueuedRun] = []
    open_packs: dict[tuple[str, str, int, int] | None, list[list[QueuedRun]]] = {}
    for one in sorted(waiting, key=lambda one: one.run.created_at):
        spec = one.run.spec
        if not isinstance(spec, RunSpec) or not _may_join(one):
            rest.append(one)
            continue
        candidates = open_packs.setdefault(_kind(one.run), [])
        pack = next((pack for pack in candidates if _has_place(pack, spec)), None)
        if pack is None:
            packs.append(pack := [])
            candidates.append(pack)
        pack.append(one)
    return rest + [_as_one(pack, now=now) for pack in packs]


def pair_findings(spec: JobSpec, *, has_baseline: bool) -> Iterator[Finding]:
    """What stands against training a run in one process with its baseline."""
    if not has_baseline:
        why = (
            "A run is packed with its baseline, and this one has none: choose a distillation "
            "method and leave the baseline on, or leave pack out."
        )
        yield error("pack", "no_baseline", why)
    if spec.resources.processes > 1:
        why = (
            f"A pack is one process, and resources.processes is {spec.resources.processes}: leave "
            "pack out, or ask for one process."
        )
        yield error("pack", "several_processes", why)
    elif spec.resources.num_gpus > 0:
        why = (
            "Whether the GPU has memory for both students is not measured before they start. If "
            "it has not, the one that lacks memory is started again by itself."
        )
        yield warning("pack", "memory_unknown", why)


def find_mergeable_packs(
    holding: Sequence[RunningRun], *, now: datetime
) -> tuple[RunningRun, RunningRun] | None:
    """Two packs that have shrunk so far that one place holds them both; none: there are no two."""
    packs = [held for held in holding if _can_merge(held, now=now)]
    packs.sort(key=_size)
    return next((pair for pair in combinations(packs, 2) if _go_together(*pair)), None)


def _can_merge(held: RunningRun, *, now: datetime) -> bool:
    runs = (held.run, *held.packmates)
    if held.run.pack_job is None or any(run.stop_kind is not None for run in runs):
        return False
    is_settled = (now - held.run.updated_at).total_seconds() >= MIN_MERGE_AGE_S
    return is_settled and all(_left_s(run) >= MIN_REMAINING_TO_MERGE_S for run in runs)


def _go_together(one: RunningRun, other: RunningRun) -> bool:
    if _size(one) + _size(other) > one.run.pack_size or _kind(one.run) != _kind(other.run):
        return False
    ours, theirs = (
        [run.spec for run in (held.run, *held.packmates) if isinstance(run.spec, RunSpec)]
        for held in (one, other)
    )
    return all(can_share_teacher(mine, yours) for mine in ours for yours in theirs)


def _size(held: RunningRun) -> int:
    return 1 + len(held.packmates)


def _kind(run: Run) -> tuple[str, str, int, int] | None:
    """Equal for runs that may be in one pack, teachers aside."""
    if not isinstance(run.spec, RunSpec):
        return None
    return pack_key(run.spec), run.project, run.priority, run.pack_size


def _left_s(run: Run) -> float:
    """How long it will train on, as far as it has said."""
    return 0.0 if run.progress is None else run.progress.eta_s or 0.0


def _may_join(one: QueuedRun) -> bool:
    return one.run.pack_size > 1 and one.blocked_by is None


def _has_place(pack: Sequence[QueuedRun], spec: RunSpec) -> bool:
    if len(pack) >= pack[0].run.pack_size:
        return False
    specs = (other.run.spec for other in pack)
    return all(isinstance(other, RunSpec) and can_share_teacher(spec, other) for other in specs)


def _as_one(pack: Sequence[QueuedRun], *, now: datetime) -> QueuedRun:
    first = pack[0]
    newest = max(_came(one.run) for one in pack)
    is_full = len(pack) >= first.run.pack_size
    is_coming = not is_full and (now - newest).total_seconds() < PACK_FILL_TIMEOUT_S
    return replace(
        first,
        packmates=tuple(one.run for one in pack[1:]),
        blocked_by=_COMING if is_coming else first.blocked_by,
    )


def _came(run: Run) -> datetime:
    """Since when it could start: a pause after a bad end is not waited out twice."""
    return max(run.updated_at, run.not_before or run.updated_at)
