"""Which runs train in one pack: the same batches, one teacher, and a limited number."""

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
from service.domain.scheduling.queue import StartDecision, WaitDecision, schedule_runs
from service.domain.scheduling.snapshot import ClusterSnapshot, QueuedRun, RunningRun
from tests.support.factories import make_bckd_spec, make_run, make_spec

NOW = FixedClock().now()
LATER = NOW + timedelta(seconds=2 * PACK_FILL_TIMEOUT_S)


def make_waiting_run(
    number: int, *, pack_size: int = 4, spec: Any = None, **changes: Any
) -> QueuedRun:
    created = NOW + timedelta(milliseconds=number)
    return QueuedRun(
        make_run(
            id=f"r{number:012d}",
            spec=parse_spec(spec or make_bckd_spec()),
            pack_size=pack_size,
            created_at=created,
            updated_at=created,
            **changes,
        )
    )


def list_sizes(packs: list[QueuedRun]) -> list[int]:
    return sorted(1 + len(pack.packmates) for pack in packs)


def test_runs_that_differ_in_their_weights_alone_go_together_up_to_the_size() -> None:
    runs = [
        make_waiting_run(
            number, spec=make_bckd_spec(distillation={"method": "bckd", "cls_weight": number + 1})
        )
        for number in range(6)
    ]

    packs = group_into_packs(runs, now=LATER)

    assert list_sizes(packs) == [2, 4]
    assert packs[0].run.id < packs[0].packmates[0].id


def test_a_baseline_is_packed_with_distilled_students() -> None:
    packs = group_into_packs(
        [make_waiting_run(0), make_waiting_run(1, spec=make_spec()), make_waiting_run(2)], now=LATER
    )

    assert list_sizes(packs) == [3]


def test_other_batches_students_teachers_and_projects_stay_apart() -> None:
    other_teacher = make_bckd_spec(teacher={"name": "other"})
    runs = [
        make_waiting_run(0),
        make_waiting_run(1, spec=make_bckd_spec(seed=1)),
        make_waiting_run(2, spec=make_bckd_spec(schedule={"epochs": 3})),
        make_waiting_run(3, spec=other_teacher),
        make_waiting_run(4, project="theirs"),
        make_waiting_run(5, priority=1),
        make_waiting_run(6, pack_size=1),
    ]

    assert list_sizes(group_into_packs(runs, now=LATER)) == [1] * 7


def test_one_that_waits_for_its_teacher_holds_no_other_up() -> None:
    blocked = replace(make_waiting_run(0), blocked_by="its teacher")

    packs = group_into_packs([blocked, make_waiting_run(1), make_waiting_run(2)], now=LATER)

    assert list_sizes(packs) == [1, 2]


def test_a_pack_with_capacity_left_waits_a_moment_for_others_and_a_full_one_does_not() -> None:
    not_before = NOW + timedelta(seconds=1)

    (partial,) = group_into_packs([make_waiting_run(0), make_waiting_run(1)], now=not_before)
    (full,) = group_into_packs(
        [make_waiting_run(number, pack_size=2) for number in range(2)], now=not_before
    )

    assert partial.blocked_by is not None
    assert full.blocked_by is None


def test_a_pack_takes_the_capacity_of_one_and_its_members_wait_in_line() -> None:
    nodes = (Node(1.0, 0.0, 1.0, 0.0, "n1"),)
    packs = group_into_packs(
        [make_waiting_run(number, pack_size=2) for number in range(4)], now=LATER
    )

    decisions = schedule_runs(ClusterSnapshot(now=LATER, nodes=nodes, queued=packs))

    starts = [decision for decision in decisions if isinstance(decision, StartDecision)]
    waits = [decision for decision in decisions if isinstance(decision, WaitDecision)]
    assert [(start.run.id[-1], len(start.packmates)) for start in starts] == [("0", 1)]
    assert [wait.position for wait in waits] == [1, 2]


def test_capacity_of_a_pack_is_released_only_when_all_of_it_leave() -> None:
    leaving, staying = (make_waiting_run(number).run for number in range(2))
    leaving = replace(leaving, desired="cancelled")

    assert not RunningRun(leaving, 1, packmates=(staying,)).is_stopping
    assert RunningRun(leaving, 1, packmates=(replace(staying, desired="paused"),)).is_stopping


def make_pack(*numbers: int, eta_s: float = 3600.0, **changes: Any) -> RunningRun:
    """Make the remaining members of a pack of four that has trained for an hour."""
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
    first, *packmates = (make_waiting_run(number, **(fields | changes)).run for number in numbers)
    return RunningRun(first, 1, packmates=tuple(packmates))


@pytest.mark.parametrize(
    ("packs", "is_merged"),
    [
        pytest.param([make_pack(0, 1), make_pack(2, 3)], True, id="two survivors each"),
        pytest.param([make_pack(0, 1, 2), make_pack(3, 4)], False, id="too many for one"),
        pytest.param([make_pack(0, 1)], False, id="one alone"),
        pytest.param([make_pack(0), make_pack(1, eta_s=60.0)], False, id="nearly done"),
        pytest.param([make_pack(0), make_pack(1, project="x")], False, id="of two projects"),
        pytest.param([make_pack(0), make_pack(1, desired="paused")], False, id="leaving"),
        pytest.param([make_pack(0), make_pack(1, pack_job=None)], False, id="no pack"),
    ],
)
def test_survivors_of_two_packs_go_together_where_it_is_worth_it(
    packs: list[RunningRun], is_merged: bool
) -> None:
    assert (find_mergeable_packs(packs, now=NOW + timedelta(hours=1)) is not None) is is_merged


def test_young_packs_are_left_alone() -> None:
    packs = [make_pack(0), make_pack(1)]

    assert find_mergeable_packs(packs, now=NOW + timedelta(seconds=MIN_MERGE_AGE_S / 2)) is None
