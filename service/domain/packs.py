"""Which waiting runs train side by side: pure.

A pack is full, or nobody has come for a while: runs of one search come in quick succession, and one
that starts without the others pays for the teacher alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from configs.spec import RunSpec
from configs.variants import pack_key, share_a_teacher
from service.domain.queue import Waiting
from service.domain.runs import Run

WAITS_FOR_OTHERS_S = 5.0
"""After so long without a newcomer, a pack that is not full starts."""

_COMING = "others of its pack, which may come within seconds"


def in_packs(waiting: Sequence[Waiting], *, now: datetime) -> list[Waiting]:
    """The same runs, those that can train side by side as one: its oldest, and the rest beside."""
    packs: list[list[Waiting]] = []
    rest: list[Waiting] = []
    open_packs: dict[tuple[str, str, int, int], list[list[Waiting]]] = {}
    for one in sorted(waiting, key=lambda one: one.run.created_at):
        spec = one.run.spec
        if not isinstance(spec, RunSpec) or not _may_join(one):
            rest.append(one)
            continue
        run = one.run
        candidates = open_packs.setdefault(
            (pack_key(spec), run.project, run.priority, run.pack_size), []
        )
        pack = next((pack for pack in candidates if _has_place(pack, spec)), None)
        if pack is None:
            packs.append(pack := [])
            candidates.append(pack)
        pack.append(one)
    return rest + [_as_one(pack, now=now) for pack in packs]


def _may_join(one: Waiting) -> bool:
    return one.run.pack_size > 1 and one.held_back is None


def _has_place(pack: Sequence[Waiting], spec: RunSpec) -> bool:
    if len(pack) >= pack[0].run.pack_size:
        return False
    specs = (other.run.spec for other in pack)
    return all(isinstance(other, RunSpec) and share_a_teacher(spec, other) for other in specs)


def _as_one(pack: Sequence[Waiting], *, now: datetime) -> Waiting:
    first = pack[0]
    newest = max(_came(one.run) for one in pack)
    is_full = len(pack) >= first.run.pack_size
    is_coming = not is_full and (now - newest).total_seconds() < WAITS_FOR_OTHERS_S
    return replace(
        first,
        beside=tuple(one.run for one in pack[1:]),
        held_back=_COMING if is_coming else first.held_back,
    )


def _came(run: Run) -> datetime:
    """Since when it could start: a pause after a bad end is not waited out twice."""
    return max(run.changed_at, run.not_before or run.changed_at)
