"""Which runs train side by side: same batches, one teacher, and not too many."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.protocol.records import Progress
from service.adapters.clock import FixedClock
from service.domain.ports import Node
from service.domain.scheduling.packs import (
    MIN_MERGE_AGE_S,
    PACK_FILL_TIMEOUT_S,
    find_mergeable_packs,
    group_into_packs,
)
from service.domain.scheduling.queue import (
    ClusterSnapshot,
    QueuedRun,
    RunningRun,
    StartDecision,
    WaitDecision,
    schedule_runs,
)
from tests.support.factories import a_bckd_spec, a_run, a_spec

NOW = FixedClock().now()
LATER = NOW + timedelta(seconds=2 * PACK_FILL_TIMEOUT_S)


def waiting(number: int, *, pack_size: int = 4, spec: Any = None, **changes: Any) -> QueuedRun:
    created = NOW + timedelta(milliseconds=number)
    return QueuedRun(
        a_run(
            id=f"r{number:012d}",
            spec=parse_spec(spec or a_bckd_spec()),
            pack_size=pack_size,
            created_at=created,
            updated_at=created,
            **changes,
        )
    )


def sizes(packs: list[QueuedRun]) -> list[int]:
    return sorted(1 + len(pack.packmates) for pack in packs)


def test_runs_that_differ_in_their_weights_alone_go_together_up_to_the_size() -> None:
    runs = [
        waiting(number, spec=a_bckd_spec(distillation={"method": "bckd", "cls_weight": number + 1}))
        for number in range(6)
    ]

    packs = group_into_packs(runs, now=LATER)

    assert sizes(packs) == [2, 4]
    assert packs[0].run.id < packs[0].packmates[0].id


def test_a_student_alone_goes_along_with_those_that_are_taught() -> None:
    packs = group_into_packs([waiting(0), waiting(1, spec=a_spec()), waiting(2)], now=LATER)

    assert sizes(packs) == [3]


def test_other_batches_students_teachers_and_projects_stay_apart() -> None:
    other_teacher = a_bckd_spec(teacher={"name": "other"})
    runs = [
        waiting(0),
        waiting(1, spec=a_bckd_spec(seed=1)),
        waiting(2, spec=a_bckd_spec(schedule={"epochs": 3})),
        waiting(3, spec=other_teacher),
        waiting(4, project="theirs"),
        waiting(5, priority=1),
        waiting(6, pack_size=1),
    ]

    assert sizes(group_into_packs(runs, now=LATER)) == [1] * 7


def test_one_that_waits_for_its_teacher_holds_no_other_up() -> None:
    blocked = replace(waiting(0), blocked_by="its teacher")

    packs = group_into_packs([blocked, waiting(1), waiting(2)], now=LATER)

    assert sizes(packs) == [1, 2]


def test_a_pack_with_room_left_waits_a_moment_for_others_and_a_full_one_does_not() -> None:
    soon = NOW + timedelta(seconds=1)

    (partial,) = group_into_packs([waiting(0), waiting(1)], now=soon)
    (full,) = group_into_packs([waiting(number, pack_size=2) for number in range(2)], now=soon)

    assert partial.blocked_by is not None
    assert full.blocked_by is None


def test_a_pack_takes_the_room_of_one_and_its_members_wait_in_line() -> None:
    nodes = (Node(1.0, 0.0, 1.0, 0.0, "n1"),)
    packs = group_into_packs([waiting(number, pack_size=2) for number in range(4)], now=LATER)

    decisions = schedule_runs(ClusterSnapshot(now=LATER, nodes=nodes, queued=packs))

    starts = [decision for decision in decisions if isinstance(decision, StartDecision)]
    waits = [decision for decision in decisions if isinstance(decision, WaitDecision)]
    assert [(start.run.id[-1], len(start.packmates)) for start in starts] == [("0", 1)]
    assert [wait.position for wait in waits] == [1, 2]


def test_room_of_a_pack_is_free_soon_only_when_all_of_it_leave() -> None:
    goes, stays = (waiting(number).run for number in range(2))
    goes = replace(goes, desired="cancelled")

    assert not RunningRun(goes, 1, packmates=(stays,)).is_stopping
    assert RunningRun(goes, 1, packmates=(replace(stays, desired="paused"),)).is_stopping


def small_pack(*numbers: int, eta_s: float = 3600.0, **changes: Any) -> RunningRun:
    """What is left of a pack of four that has trained for an hour."""
    progress = Progress(
        at=NOW,
        attempt=1,
        phase="training",
        epoch=1,
        epochs=9,
        step=9,
        steps=99,
        eta_s=eta_s,
    )
    fields: dict[str, Any] = {"pack_job": f"p{numbers[0]}", "progress": progress}
    first, *packmates = (waiting(number, **(fields | changes)).run for number in numbers)
    return RunningRun(first, 1, packmates=tuple(packmates))


@pytest.mark.parametrize(
    ("packs", "is_merged"),
    [
        pytest.param([small_pack(0, 1), small_pack(2, 3)], True, id="two survivors each"),
        pytest.param([small_pack(0, 1, 2), small_pack(3, 4)], False, id="too many for one"),
        pytest.param([small_pack(0, 1)], False, id="one alone"),
        pytest.param([small_pack(0), small_pack(1, eta_s=60.0)], False, id="nearly done"),
        pytest.param([small_pack(0), small_pack(1, project="x")], False, id="of two projects"),
        pytest.param([small_pack(0), small_pack(1, desired="paused")], False, id="leaving"),
        pytest.param([small_pack(0), small_pack(1, pack_job=None)], False, id="no pack"),
    ],
)
def test_survivors_of_two_packs_go_together_where_it_is_worth_it(
    packs: list[RunningRun], is_merged: bool
) -> None:
    assert (find_mergeable_packs(packs, now=NOW + timedelta(hours=1)) is not None) is is_merged


def test_young_packs_are_left_alone() -> None:
    packs = [small_pack(0), small_pack(1)]

    assert find_mergeable_packs(packs, now=NOW + timedelta(seconds=MIN_MERGE_AGE_S / 2)) is None
