"""Who starts, who waits and why, who makes room: from numbers alone."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.catalog import parse_spec
from service.adapters.clock import FixedClock
from service.domain.ports import Node
from service.domain.runs import Run
from service.domain.scheduling.capacity import count_slots
from service.domain.scheduling.node_health import AvoidedNodes
from service.domain.scheduling.projects import Project
from service.domain.scheduling.queue import (
    ClusterSnapshot,
    Decision,
    PreemptDecision,
    QueuedRun,
    ReleasedCapacity,
    RunningRun,
    StartDecision,
    WaitDecision,
    schedule_runs,
)
from service.domain.states import RunState
from tests.support.factories import a_run, a_spec

NOW = FixedClock().now()
GPUS_8 = Node(64.0, 8.0, 64.0, 8.0, "n1")


def wants(name: str, *, gpus: int = 1, processes: int = 1, **changes: Any) -> Run:
    resources = {"num_gpus": gpus, "processes": processes}
    spec = a_spec(resources=resources)
    spec["data"] |= {"batch_size": 24}
    return a_run(id=name, spec=parse_spec(spec), **changes)


def waits(name: str, **changes: Any) -> QueuedRun:
    return QueuedRun(wants(name, **changes))


def holds(name: str, *, processes: int = 1, **changes: Any) -> RunningRun:
    run = wants(name, processes=processes, state=RunState.RUNNING, **changes)
    return RunningRun(run, processes, "n1" if processes == 1 else None)


def situation(*waiting: QueuedRun, node: Node = GPUS_8, **changes: Any) -> ClusterSnapshot:
    held = changes.get("holding", ())
    used = sum(one.run.spec.resources.num_gpus * one.processes for one in held)
    cpus = sum(one.run.spec.resources.num_cpus * one.processes for one in held)
    left = replace(node, free_gpus=node.free_gpus - used, free_cpus=node.free_cpus - cpus)
    return ClusterSnapshot(now=NOW, nodes=(left,), queued=waiting, **changes)


def started(decisions: list[Decision]) -> list[str]:
    return [one.run.id for one in decisions if isinstance(one, StartDecision)]


def why(decisions: list[Decision], name: str) -> str:
    (found,) = [one for one in decisions if isinstance(one, WaitDecision) and one.run.id == name]
    return found.why


def preempted(decisions: list[Decision]) -> list[str]:
    return [one.run.id for one in decisions if isinstance(one, PreemptDecision)]


class TestOrder:
    """Priority, then share, then age."""

    def test_the_larger_priority_goes_first_and_the_older_of_equals(self) -> None:
        runs = (
            waits("young", priority=1, created_at=NOW),
            waits("old", priority=1, created_at=NOW - timedelta(hours=1)),
            waits("pressing", priority=2, created_at=NOW),
        )

        decisions = schedule_runs(situation(*runs, node=Node(2.0, 2.0, 2.0, 2.0)))

        assert started(decisions) == ["pressing", "old"]
        assert [one.position for one in decisions if isinstance(one, WaitDecision)] == [1]

    def test_projects_take_turns_whoever_asked_for_more(self) -> None:
        many = [waits(f"a{n}", project="a", created_at=NOW) for n in range(6)]
        few = [waits(f"b{n}", project="b", created_at=NOW + timedelta(hours=1)) for n in range(2)]

        decisions = schedule_runs(situation(*many, *few, node=Node(4.0, 4.0, 4.0, 4.0)))

        assert sorted(started(decisions)) == ["a0", "a1", "b0", "b1"]

    def test_what_a_project_has_already_counts(self) -> None:
        held = [holds(f"h{n}", project="a") for n in range(4)]
        runs = (
            waits("a", project="a", created_at=NOW - timedelta(days=1)),
            waits("b", project="b"),
        )

        decisions = schedule_runs(situation(*runs, node=Node(5.0, 5.0, 5.0, 5.0), holding=held))

        assert started(decisions) == ["b"]

    def test_a_heavier_project_has_the_larger_share(self) -> None:
        runs = [waits(f"{p}{n}", project=p) for n in range(6) for p in ("a", "b")]
        projects = {"a": Project("a", weight=2.0)}

        decisions = schedule_runs(
            situation(*runs, node=Node(6.0, 6.0, 6.0, 6.0), projects=projects)
        )

        assert sorted(name[0] for name in started(decisions)) == ["a"] * 4 + ["b"] * 2


class TestLimits:
    """What a project may take at most."""

    def test_runs_at_a_time(self) -> None:
        projects = {"default": Project(max_runs=1)}

        decisions = schedule_runs(situation(waits("r1"), waits("r2"), projects=projects))

        assert started(decisions) == ["r1"]
        assert "fewer than 1 runs" in why(decisions, "r2")

    def test_gpus_at_a_time(self) -> None:
        projects = {"default": Project(max_gpus=3)}
        runs = (waits("two", processes=2), waits("also two", processes=2), waits("none", gpus=0))

        decisions = schedule_runs(situation(*runs, projects=projects))

        assert started(decisions) == ["two", "none"]
        assert "3 GPUs" in why(decisions, "also two")


class TestPassing:
    """Small runs pass a large one, but not for ever."""

    def test_a_small_run_passes_one_that_cannot_start_yet(self) -> None:
        runs = (waits("large", processes=8), waits("small", created_at=NOW + timedelta(1)))

        decisions = schedule_runs(situation(*runs, holding=[holds("h")]))

        assert started(decisions) == ["small"]
        assert "8 processes" in why(decisions, "large")

    def test_room_is_held_for_one_that_has_waited_long(self) -> None:
        old = NOW - timedelta(seconds=121)
        runs = (
            waits("large", processes=8, updated_at=old, created_at=old),
            waits("small"),
            waits("without a GPU", gpus=0),
        )

        decisions = schedule_runs(situation(*runs, holding=[holds("h")]))

        assert started(decisions) == ["without a GPU"]

    def test_room_is_held_where_most_is_free_and_elsewhere_others_start(self) -> None:
        old = NOW - timedelta(seconds=121)
        nodes = (
            Node(1.0, 1.0, 1.0, 1.0, "small"),
            Node(8.0, 4.0, 4.0, 0.0, "full"),
            Node(8.0, 4.0, 6.0, 2.0, "half empty"),
        )
        runs = (
            waits("large", processes=4, updated_at=old, created_at=old),
            waits("s1"),
            waits("s2"),
        )

        decisions = schedule_runs(ClusterSnapshot(now=NOW, nodes=nodes, queued=runs))

        assert started(decisions) == ["s1"]
        assert "4 processes" in why(decisions, "large")

    def test_one_that_can_never_start_holds_nothing(self) -> None:
        old = NOW - timedelta(days=1)
        runs = (
            waits("impossible", processes=12, updated_at=old, created_at=old),
            waits("small"),
        )

        decisions = schedule_runs(situation(*runs))

        assert started(decisions) == ["small"]
        assert "room for 8" in why(decisions, "impossible")


class TestPreemption:
    """Runs of smaller priority make room."""

    def test_the_least_then_the_youngest_leaves(self) -> None:
        held = [
            holds("old", updated_at=NOW - timedelta(hours=2), priority=-1),
            holds("young", updated_at=NOW - timedelta(hours=1), priority=-1),
            holds("equal", priority=5),
        ]
        node = Node(3.0, 3.0, 3.0, 3.0, "n1")

        decisions = schedule_runs(situation(waits("pressing", priority=5), node=node, holding=held))

        assert preempted(decisions) == ["young"]
        assert "run young" in why(decisions, "pressing")

    def test_those_of_another_project_are_not_named(self) -> None:
        held = [holds("theirs", project="b", priority=-1)]

        node = Node(1.0, 1.0, 1.0, 1.0, "n1")
        ours = waits("ours", project="a", priority=1)

        decisions = schedule_runs(situation(ours, node=node, holding=held))

        assert preempted(decisions) == ["theirs"]
        assert "a run of another project" in why(decisions, "ours")
        assert "theirs" not in why(decisions, "ours")

    def test_nobody_leaves_where_it_would_not_help(self) -> None:
        held = [holds("small", priority=0), holds("equal", processes=6, priority=5)]

        decisions = schedule_runs(
            situation(waits("pressing", processes=8, priority=5), holding=held)
        )

        assert preempted(decisions) == []

    def test_no_more_leave_than_are_needed(self) -> None:
        held = [
            holds("one", updated_at=NOW, priority=0),
            holds("four", processes=4, updated_at=NOW - timedelta(1), priority=0),
            holds("three", processes=3, priority=9),
        ]

        decisions = schedule_runs(
            situation(waits("pressing", processes=4, priority=5), holding=held)
        )

        assert preempted(decisions) == ["four"]

    def test_those_that_are_leaving_already_are_waited_for(self) -> None:
        held = [
            holds("leaving", processes=4, preempted_for="pressing"),
            holds("staying", processes=4),
        ]
        runs = (waits("pressing", processes=4, priority=5), waits("small", priority=0))

        decisions = schedule_runs(situation(*runs, holding=held))

        assert preempted(decisions) == []
        assert started(decisions) == []
        assert "run leaving" in why(decisions, "pressing")

    def test_what_has_been_left_and_is_not_counted_yet_goes_to_whom_it_was_left_for(self) -> None:
        left = ReleasedCapacity(wants("gone", processes=4).spec.resources, 4)
        held = [holds("not counted", processes=4), holds("h", processes=3)]
        asked = situation(
            waits("pressing", processes=4, priority=5),
            waits("the one that left", priority=0),
            holding=held,
            left=[left],
        )

        decisions = schedule_runs(replace(asked, running=held[1:]))

        assert started(decisions) == []
        assert preempted(decisions) == []

    def test_what_one_leaves_is_held_for_whom_it_left(self) -> None:
        held = [holds("leaving", processes=4, preempted_for="pressing"), holds("h", processes=3)]
        runs = (waits("pressing", processes=4, priority=5), waits("small", priority=0))

        decisions = schedule_runs(situation(*runs, holding=held))

        assert started(decisions) == []


def test_what_a_run_waits_for_beside_room_is_said_and_takes_none() -> None:
    runs = (QueuedRun(wants("student"), blocked_by="its teacher, run r0"), waits("other"))

    decisions = schedule_runs(situation(*runs, node=Node(1.0, 1.0, 1.0, 1.0)))

    assert why(decisions, "student") == "its teacher, run r0"
    assert started(decisions) == ["other"]


def test_nodes_that_lost_attempts_are_avoided_as_long_as_others_will_do() -> None:
    good = Node(2.0, 2.0, 2.0, 2.0, "good")
    bad = Node(8.0, 8.0, 8.0, 8.0, "bad")
    ids = frozenset({"bad"})
    avoid = AvoidedNodes(ids, ids)

    small = schedule_runs(ClusterSnapshot(NOW, (bad, good), (waits("small"),), avoid=avoid))
    large = schedule_runs(
        ClusterSnapshot(NOW, (bad, good), (waits("large", processes=8),), avoid=avoid)
    )

    assert small == [StartDecision(wants("small"), 1, ids)]
    assert large == [StartDecision(wants("large", processes=8), 8, frozenset())]


def test_a_node_whose_gpus_are_avoided_takes_work_that_needs_none() -> None:
    good = Node(2.0, 2.0, 2.0, 2.0, "good")
    bad = Node(8.0, 8.0, 8.0, 8.0, "bad")
    avoid = AvoidedNodes(for_gpus=frozenset({"bad"}))
    with_gpus = [waits(f"gpu{number}") for number in range(3)]
    without = [waits(f"cpu{number}", gpus=0) for number in range(3)]

    decisions = schedule_runs(
        ClusterSnapshot(NOW, (bad, good), (*with_gpus, *without), avoid=avoid)
    )

    starts = {one.run.id: one.avoid for one in decisions if isinstance(one, StartDecision)}
    assert starts == {
        "gpu0": {"bad"},
        "gpu1": {"bad"},
        "cpu0": frozenset(),
        "cpu1": frozenset(),
        "cpu2": frozenset(),
    }


def test_gpus_are_avoided_only_as_long_as_others_will_do() -> None:
    bad = Node(8.0, 8.0, 8.0, 8.0, "bad")
    avoid = AvoidedNodes(for_gpus=frozenset({"bad"}))

    decisions = schedule_runs(ClusterSnapshot(NOW, (bad,), (waits("gpu"),), avoid=avoid))

    assert decisions == [StartDecision(wants("gpu"), 1, frozenset())]


a_size = st.tuples(st.integers(0, 2), st.integers(1, 6))


@given(
    queue=st.lists(
        st.tuples(a_size, st.integers(-1, 1), st.sampled_from("ab"), st.integers(0, 400)),
        max_size=12,
    ),
    active=st.lists(st.tuples(st.integers(1, 3), st.integers(-1, 1), st.booleans()), max_size=4),
    limit=st.none() | st.integers(0, 4),
)
def test_whatever_waits_nothing_is_promised_twice_and_everybody_is_answered_once(
    queue: list[tuple[tuple[int, int], int, str, int]],
    active: list[tuple[int, int, bool]],
    limit: int | None,
) -> None:
    waiting = [
        waits(
            f"q{n}",
            gpus=min(gpus, 1),
            processes=processes if 24 % processes == 0 else 1,
            priority=priority,
            project=project,
            updated_at=NOW - timedelta(seconds=age),
        )
        for n, ((gpus, processes), priority, project, age) in enumerate(queue)
    ]
    holding = [
        holds(
            f"h{n}",
            processes=processes if 24 % processes == 0 else 1,
            priority=priority,
            preempted_for="x" if leaves else None,
        )
        for n, (processes, priority, leaves) in enumerate(active)
    ]
    asked = situation(
        *waiting,
        node=Node(12.0, 12.0, 12.0, 12.0, "n1"),
        holding=holding,
        projects={"a": Project("a", max_runs=limit)},
    )

    decisions = schedule_runs(asked)

    (node,) = asked.nodes
    answered = [one.run.id for one in decisions if not isinstance(one, PreemptDecision)]
    assert sorted(answered) == sorted(one.run.id for one in waiting)
    starts = [one for one in decisions if isinstance(one, StartDecision)]
    assert sum(s.processes * s.run.spec.resources.num_cpus for s in starts) <= node.free_cpus
    assert sum(s.processes * s.run.spec.resources.num_gpus for s in starts) <= node.free_gpus
    assert limit is None or sum(s.run.project == "a" for s in starts) <= max(limit, 0)
    positions = [one.position for one in decisions if isinstance(one, WaitDecision)]
    assert positions == list(range(1, len(positions) + 1))
    for one in decisions:
        if isinstance(one, PreemptDecision):
            assert one.run.priority < one.preempted_for.priority
            assert one.run.stop_kind is None


@pytest.mark.parametrize("processes", [1, 4])
def test_a_run_that_fits_when_the_cluster_is_empty_starts(processes: int) -> None:
    assert count_slots(wants("r").spec.resources, (GPUS_8,), total=False) == 8
    assert started(schedule_runs(situation(waits("r", processes=processes)))) == ["r"]
