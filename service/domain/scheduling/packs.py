"""Which queued runs train side by side in one process; no I/O.

A pack starts when it is full or when no run has joined for a while: runs of one search are queued
in quick succession, and one that starts without the others does not share the teacher's cost.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import product

from configs.derived_specs import can_share_teacher, pack_key
from configs.spec.jobs import JobSpec
from configs.spec.run import RunSpec
from service.domain.planning.findings import Finding, error, warning
from service.domain.runs import Run
from service.domain.scheduling.snapshot import QueuedRun, RunningRun

PACK_FILL_TIMEOUT_S = 15.0
"""How long a pack that is not full waits for the next run."""

MIN_MERGE_AGE_S = 600.0
"""Younger packs are not merged: a restart would cost more than it saves."""

MIN_REMAINING_TO_MERGE_S = 300.0
"""Packs with less left to train are not merged: a restart measures the teacher once more."""

PAIR_SIZE = 2
"""A run and its baseline."""

_WAITING_FOR_PACK = "others of its pack, which may come within seconds"

_PackKey = tuple[str, str, int, int]


class PackKeys:
    """Digests of runs that may train in one pack, computed once for each run: they take 0.1 ms."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def get(self, run: Run) -> _PackKey | None:
        """Equal for runs that may be in one pack if their teachers agree; None for other jobs."""
        if not isinstance(run.spec, RunSpec):
            return None
        if run.id not in self._digests:
            self._digests[run.id] = pack_key(run.spec)
        return self._digests[run.id], run.project, run.queue.priority, run.pack.size

    def retain(self, run_ids: Collection[str]) -> None:
        """Forget all other runs."""
        self._digests = {key: self._digests[key] for key in run_ids if key in self._digests}


def group_into_packs(
    queued: Sequence[QueuedRun], *, now: datetime, keys: PackKeys | None = None
) -> list[QueuedRun]:
    """The same runs, those that can train side by side as one: the oldest with its packmates."""
    keys = keys or PackKeys()
    packs: list[list[QueuedRun]] = []
    unpacked: list[QueuedRun] = []
    open_packs: dict[_PackKey | None, list[list[QueuedRun]]] = {}
    for candidate in sorted(queued, key=lambda queued: queued.run.created_at):
        spec = candidate.run.spec
        if not isinstance(spec, RunSpec) or not _can_join(candidate):
            unpacked.append(candidate)
            continue
        key = keys.get(candidate.run)
        open_with_key = open_packs.setdefault(key, [])
        pack = next((pack for pack in open_with_key if _accepts(pack, spec)), None)
        if pack is None:
            packs.append(pack := [])
            open_with_key.append(pack)
        pack.append(candidate)
        if len(pack) >= pack[0].run.pack.size:
            open_packs[key] = [other for other in open_with_key if other is not pack]
    return unpacked + [_combine(pack, now=now) for pack in packs]


def pair_findings(spec: JobSpec, *, has_baseline: bool) -> Iterator[Finding]:
    """What keeps a run from training in one process with its baseline."""
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
            "it has not, the one that runs out of memory is started again by itself."
        )
        yield warning("pack", "memory_unknown", why)


def find_mergeable_packs(
    running: Sequence[RunningRun], *, now: datetime, keys: PackKeys | None = None
) -> tuple[RunningRun, RunningRun] | None:
    """Two packs that have shrunk so far that one process can train both; None if there are none.

    Of several pairs it is the first, by size.
    """
    keys = keys or PackKeys()
    packs = sorted((pack for pack in running if _can_merge(pack, now=now)), key=_size)
    with_key = defaultdict(list)
    for rank, pack in enumerate(packs):
        with_key[keys.get(pack.run)].append((rank, pack))
    for rank, pack in enumerate(packs):
        candidates = (other for later, other in with_key[keys.get(pack.run)] if later > rank)
        partner = next((other for other in candidates if _fit_together(pack, other)), None)
        if partner is not None:
            return pack, partner
    return None


def _can_merge(pack: RunningRun, *, now: datetime) -> bool:
    runs = (pack.run, *pack.packmates)
    if pack.run.pack.job is None or any(run.stop_kind is not None for run in runs):
        return False
    is_old_enough = (now - pack.run.updated_at).total_seconds() >= MIN_MERGE_AGE_S
    return is_old_enough and all(_remaining_s(run) >= MIN_REMAINING_TO_MERGE_S for run in runs)


def _fit_together(first: RunningRun, second: RunningRun) -> bool:
    """Whether two packs with one key do."""
    if _size(first) + _size(second) > first.run.pack.size:
        return False
    first_specs, second_specs = (
        [run.spec for run in (pack.run, *pack.packmates) if isinstance(run.spec, RunSpec)]
        for pack in (first, second)
    )
    return all(can_share_teacher(*specs) for specs in product(first_specs, second_specs))


def _size(pack: RunningRun) -> int:
    return 1 + len(pack.packmates)


def _remaining_s(run: Run) -> float:
    """How long it will train on, as its worker estimated last."""
    progress = run.results.progress
    return 0.0 if progress is None else progress.eta_s or 0.0


def _can_join(queued: QueuedRun) -> bool:
    return queued.run.pack.size > 1 and queued.blocked_by is None


def _accepts(pack: Sequence[QueuedRun], spec: RunSpec) -> bool:
    specs = (member.run.spec for member in pack)
    return all(isinstance(other, RunSpec) and can_share_teacher(spec, other) for other in specs)


def _combine(pack: Sequence[QueuedRun], *, now: datetime) -> QueuedRun:
    oldest = pack[0]
    newest_at = max(_ready_at(member.run) for member in pack)
    is_full = len(pack) >= oldest.run.pack.size
    is_filling = not is_full and (now - newest_at).total_seconds() < PACK_FILL_TIMEOUT_S
    return replace(
        oldest,
        packmates=tuple(member.run for member in pack[1:]),
        blocked_by=_WAITING_FOR_PACK if is_filling else oldest.blocked_by,
    )


def _ready_at(run: Run) -> datetime:
    """Since when it could start: its retry delay counts as waiting for the pack."""
    return max(run.updated_at, run.retries.not_before or run.updated_at)
