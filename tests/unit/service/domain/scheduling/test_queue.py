"""Which runs start, which wait and why, and which are preempted."""

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
    Decision,
    PreemptDecision,
    StartDecision,
    WaitDecision,
    schedule_runs,
)
from service.domain.scheduling.snapshot import (
    ClusterSnapshot,
    QueuedRun,
    ReleasedCapacity,
    RunningRun,
)
from service.domain.states import RunState
from tests.support.factories import make_run, make_spec

NOW = FixedClock().now()
GPUS_8 = Node(64.0, 8.0, 64.0, 8.0, "n1")


def make_run_with_demand(name: str, *, gpus: int = 1, processes: int = 1, **changes: Any) -> Run:
    resources = {"num_gpus": gpus, "processes": processes}
    spec = make_spec(resources=resources)
    spec["data"] |= {"batch_size": 24}
    return make_run(id=name, spec=parse_spec(spec), **changes)


def make_queued_run(name: str, **changes: Any) -> QueuedRun:
    return QueuedRun(make_run_with_demand(name, **changes))


def make_running_run(name: str, *, processes: int = 1, **changes: Any) -> RunningRun:
    run = make_run_with_demand(name, processes=processes, state=RunState.RUNNING, **changes)
    return RunningRun(run, processes, "n1" if processes == 1 else None)


def make_snapshot(*waiting: QueuedRun, node: Node = GPUS_8, **changes: Any) -> ClusterSnapshot:
    active = changes.get("running", ())
    used = sum(item.run.spec.resources.num_gpus * item.processes for item in active)
    cpus = sum(item.run.spec.resources.num_cpus * item.processes for item in active)
    free = replace(node, free_gpus=node.free_gpus - used, free_cpus=node.free_cpus - cpus)
    return ClusterSnapshot(now=NOW, nodes=(free,), queued=waiting, **changes)


def list_started(decisions: list[Decision]) -> list[str]:
    return [item.run.id for item in decisions if isinstance(item, StartDecision)]


def find_reason(decisions: list[Decision], name: str) -> str:
    (decision,) = [
        item for item in decisions if isinstance(item, WaitDecision) and item.run.id == name
    ]
    return decision.why


def list_preempted(decisions: list[Decision]) -> list[str]:
    return [item.run.id for item in decisions if isinstance(item, PreemptDecision)]


class TestOrder:
    """Priority, then share, then age."""

    def test_the_larger_priority_goes_first_and_the_older_of_equals(self) -> None:
        runs = (
            make_queued_run("young", priority=1, created_at=NOW),
            make_queued_run("old", priority=1, created_at=NOW - timedelta(hours=1)),
            make_queued_run("pressing", priority=2, created_at=NOW),
        )

        decisions = schedule_runs(make_snapshot(*runs, node=Node(2.0, 2.0, 2.0, 2.0)))

        assert list_started(decisions) == ["pressing", "old"]
        assert [item.position for item in decisions if isinstance(item, WaitDecision)] == [1]

    def test_projects_take_turns_whoever_asked_for_more(self) -> None:
        many = [make_queued_run(f"a{n}", project="a", created_at=NOW) for n in range(6)]
        few = [
            make_queued_run(f"b{n}", project="b", created_at=NOW + timedelta(hours=1))
            for n in range(2)
        ]

        decisions = schedule_runs(make_snapshot(*many, *few, node=Node(4.0, 4.0, 4.0, 4.0)))

        assert sorted(list_started(decisions)) == ["a0", "a1", "b0", "b1"]

    def test_what_a_project_has_already_counts(self) -> None:
        active = [make_running_run(f"h{n}", project="a") for n in range(4)]
        runs = (
            make_queued_run("a", project="a", created_at=NOW - timedelta(days=1)),
            make_queued_run("b", project="b"),
        )

        decisions = schedule_runs(
            make_snapshot(*runs, node=Node(5.0, 5.0, 5.0, 5.0), running=active)
        )

        assert list_started(decisions) == ["b"]

    def test_a_heavier_project_has_the_larger_share(self) -> None:
        runs = [make_queued_run(f"{p}{n}", project=p) for n in range(6) for p in ("a", "b")]
        projects = {"a": Project("a", weight=2.0)}

        decisions = schedule_runs(
            make_snapshot(*runs, node=Node(6.0, 6.0, 6.0, 6.0), projects=projects)
        )

        assert sorted(name[0] for name in list_started(decisions)) == ["a"] * 4 + ["b"] * 2


class TestLimits:
    """Limits of a project."""

    def test_runs_at_a_time(self) -> None:
        projects = {"default": Project(max_runs=1)}

        decisions = schedule_runs(
            make_snapshot(make_queued_run("r1"), make_queued_run("r2"), projects=projects)
        )

        assert list_started(decisions) == ["r1"]
        assert "fewer than 1 runs" in find_reason(decisions, "r2")

    def test_gpus_at_a_time(self) -> None:
        projects = {"default": Project(max_gpus=3)}
        runs = (
            make_queued_run("two", processes=2),
            make_queued_run("also two", processes=2),
            make_queued_run("none", gpus=0),
        )

        decisions = schedule_runs(make_snapshot(*runs, projects=projects))

        assert list_started(decisions) == ["two", "none"]
        assert "3 GPUs" in find_reason(decisions, "also two")


class TestPassing:
    """Small runs overtake a large one, for a limited time."""

    def test_a_small_run_passes_one_that_cannot_start_yet(self) -> None:
        runs = (
            make_queued_run("large", processes=8),
            make_queued_run("small", created_at=NOW + timedelta(1)),
        )

        decisions = schedule_runs(make_snapshot(*runs, running=[make_running_run("h")]))

        assert list_started(decisions) == ["small"]
        assert "8 processes" in find_reason(decisions, "large")

    def test_capacity_is_held_for_one_that_has_waited_long(self) -> None:
        old = NOW - timedelta(seconds=121)
        runs = (
            make_queued_run("large", processes=8, updated_at=old, created_at=old),
            make_queued_run("small"),
            make_queued_run("without a GPU", gpus=0),
        )

        decisions = schedule_runs(make_snapshot(*runs, running=[make_running_run("h")]))

        assert list_started(decisions) == ["without a GPU"]

    def test_capacity_is_held_where_most_is_free_and_elsewhere_others_start(self) -> None:
        old = NOW - timedelta(seconds=121)
        nodes = (
            Node(1.0, 1.0, 1.0, 1.0, "small"),
            Node(8.0, 4.0, 4.0, 0.0, "full"),
            Node(8.0, 4.0, 6.0, 2.0, "half empty"),
        )
        runs = (
            make_queued_run("large", processes=4, updated_at=old, created_at=old),
            make_queued_run("s1"),
            make_queued_run("s2"),
        )

        decisions = schedule_runs(ClusterSnapshot(now=NOW, nodes=nodes, queued=runs))

        assert list_started(decisions) == ["s1"]
        assert "4 processes" in find_reason(decisions, "large")

    def test_one_that_can_never_start_holds_nothing(self) -> None:
        old = NOW - timedelta(days=1)
        runs = (
            make_queued_run("impossible", processes=12, updated_at=old, created_at=old),
            make_queued_run("small"),
        )

        decisions = schedule_runs(make_snapshot(*runs))

        assert list_started(decisions) == ["small"]
        assert "room for 8" in find_reason(decisions, "impossible")


class TestPreemption:
    """Runs of lower priority are preempted."""

    def test_the_least_then_the_youngest_leaves(self) -> None:
        active = [
            make_running_run("old", updated_at=NOW - timedelta(hours=2), priority=-1),
            make_running_run("young", updated_at=NOW - timedelta(hours=1), priority=-1),
            make_running_run("equal", priority=5),
        ]
        node = Node(3.0, 3.0, 3.0, 3.0, "n1")

        decisions = schedule_runs(
            make_snapshot(make_queued_run("pressing", priority=5), node=node, running=active)
        )

        assert list_preempted(decisions) == ["young"]
        assert "run young" in find_reason(decisions, "pressing")

    def test_those_of_another_project_are_not_named(self) -> None:
        active = [make_running_run("theirs", project="b", priority=-1)]

        node = Node(1.0, 1.0, 1.0, 1.0, "n1")
        queued_run = make_queued_run("ours", project="a", priority=1)

        decisions = schedule_runs(make_snapshot(queued_run, node=node, running=active))

        assert list_preempted(decisions) == ["theirs"]
        assert "a run of another project" in find_reason(decisions, "ours")
        assert "theirs" not in find_reason(decisions, "ours")

    def test_nobody_leaves_where_it_would_not_help(self) -> None:
        active = [
            make_running_run("small", priority=0),
            make_running_run("equal", processes=6, priority=5),
        ]

        decisions = schedule_runs(
            make_snapshot(make_queued_run("pressing", processes=8, priority=5), running=active)
        )

        assert list_preempted(decisions) == []

    def test_no_more_leave_than_are_needed(self) -> None:
        active = [
            make_running_run("one", updated_at=NOW, priority=0),
            make_running_run("four", processes=4, updated_at=NOW - timedelta(1), priority=0),
            make_running_run("three", processes=3, priority=9),
        ]

        decisions = schedule_runs(
            make_snapshot(make_queued_run("pressing", processes=4, priority=5), running=active)
        )

        assert list_preempted(decisions) == ["four"]

    def test_those_that_are_leaving_already_are_waited_for(self) -> None:
        active = [
            make_running_run("leaving", processes=4, preempted_for="pressing"),
            make_running_run("staying", processes=4),
        ]
        runs = (
            make_queued_run("pressing", processes=4, priority=5),
            make_queued_run("small", priority=0),
        )

        decisions = schedule_runs(make_snapshot(*runs, running=active))

        assert list_preempted(decisions) == []
        assert list_started(decisions) == []
        assert "run leaving" in find_reason(decisions, "pressing")

    def test_what_has_been_left_and_is_not_counted_yet_goes_to_whom_it_was_left_for(self) -> None:
        free = ReleasedCapacity(make_run_with_demand("gone", processes=4).spec.resources, 4)
        active = [make_running_run("not counted", processes=4), make_running_run("h", processes=3)]
        snapshot = make_snapshot(
            make_queued_run("pressing", processes=4, priority=5),
            make_queued_run("the one that left", priority=0),
            running=active,
            released=[free],
        )

        decisions = schedule_runs(replace(snapshot, running=active[1:]))

        assert list_started(decisions) == []
        assert list_preempted(decisions) == []

    def test_what_one_leaves_is_held_for_whom_it_left(self) -> None:
        active = [
            make_running_run("leaving", processes=4, preempted_for="pressing"),
            make_running_run("h", processes=3),
        ]
        runs = (
            make_queued_run("pressing", processes=4, priority=5),
            make_queued_run("small", priority=0),
        )

        decisions = schedule_runs(make_snapshot(*runs, running=active))

        assert list_started(decisions) == []


def test_what_a_run_waits_for_besides_capacity_is_said_and_takes_none() -> None:
    runs = (
        QueuedRun(make_run_with_demand("student"), blocked_by="its teacher, run r0"),
        make_queued_run("other"),
    )

    decisions = schedule_runs(make_snapshot(*runs, node=Node(1.0, 1.0, 1.0, 1.0)))

    assert find_reason(decisions, "student") == "its teacher, run r0"
    assert list_started(decisions) == ["other"]


def test_nodes_that_lost_attempts_are_avoided_as_long_as_others_will_do() -> None:
    usable_node = Node(2.0, 2.0, 2.0, 2.0, "good")
    avoided_node = Node(8.0, 8.0, 8.0, 8.0, "bad")
    ids = frozenset({"bad"})
    avoid = AvoidedNodes(ids, ids)

    small = schedule_runs(
        ClusterSnapshot(NOW, (avoided_node, usable_node), (make_queued_run("small"),), avoid=avoid)
    )
    large = schedule_runs(
        ClusterSnapshot(
            NOW, (avoided_node, usable_node), (make_queued_run("large", processes=8),), avoid=avoid
        )
    )

    assert small == [StartDecision(make_run_with_demand("small"), 1, ids)]
    assert large == [StartDecision(make_run_with_demand("large", processes=8), 8, frozenset())]


def test_a_node_whose_gpus_are_avoided_takes_work_that_needs_none() -> None:
    usable_node = Node(2.0, 2.0, 2.0, 2.0, "good")
    avoided_node = Node(8.0, 8.0, 8.0, 8.0, "bad")
    avoid = AvoidedNodes(for_gpus=frozenset({"bad"}))
    with_gpus = [make_queued_run(f"gpu{number}") for number in range(3)]
    cpu_runs = [make_queued_run(f"cpu{number}", gpus=0) for number in range(3)]

    decisions = schedule_runs(
        ClusterSnapshot(NOW, (avoided_node, usable_node), (*with_gpus, *cpu_runs), avoid=avoid)
    )

    starts = {item.run.id: item.avoid for item in decisions if isinstance(item, StartDecision)}
    assert starts == {
        "gpu0": {"bad"},
        "gpu1": {"bad"},
        "cpu0": frozenset(),
        "cpu1": frozenset(),
        "cpu2": frozenset(),
    }


def test_gpus_are_avoided_only_as_long_as_others_will_do() -> None:
    avoided_node = Node(8.0, 8.0, 8.0, 8.0, "bad")
    avoid = AvoidedNodes(for_gpus=frozenset({"bad"}))

    decisions = schedule_runs(
        ClusterSnapshot(NOW, (avoided_node,), (make_queued_run("gpu"),), avoid=avoid)
    )

    assert decisions == [StartDecision(make_run_with_demand("gpu"), 1, frozenset())]


sizes_strategy = st.tuples(st.integers(0, 2), st.integers(1, 6))


@given(
    queue=st.lists(
        st.tuples(sizes_strategy, st.integers(-1, 1), st.sampled_from("ab"), st.integers(0, 400)),
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
        make_queued_run(
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
        make_running_run(
            f"h{n}",
            processes=processes if 24 % processes == 0 else 1,
            priority=priority,
            preempted_for="x" if leaves else None,
        )
        for n, (processes, priority, leaves) in enumerate(active)
    ]
    snapshot = make_snapshot(
        *waiting,
        node=Node(12.0, 12.0, 12.0, 12.0, "n1"),
        running=holding,
        projects={"a": Project("a", max_runs=limit)},
    )

    decisions = schedule_runs(snapshot)

    (node,) = snapshot.nodes
    decided = [item.run.id for item in decisions if not isinstance(item, PreemptDecision)]
    assert sorted(decided) == sorted(item.run.id for item in waiting)
    starts = [item for item in decisions if isinstance(item, StartDecision)]
    assert sum(s.processes * s.run.spec.resources.num_cpus for s in starts) <= node.free_cpus
    assert sum(s.processes * s.run.spec.resources.num_gpus for s in starts) <= node.free_gpus
    assert limit is None or sum(s.run.project == "a" for s in starts) <= max(limit, 0)
    positions = [item.position for item in decisions if isinstance(item, WaitDecision)]
    assert positions == list(range(1, len(positions) + 1))
    for item in decisions:
        if isinstance(item, PreemptDecision):
            assert item.run.queue.priority < item.preempted_for.queue.priority
            assert item.run.stop_kind is None


@pytest.mark.parametrize("processes", [1, 4])
def test_a_run_that_fits_when_the_cluster_is_empty_starts(processes: int) -> None:
    assert count_slots(make_run_with_demand("r").spec.resources, (GPUS_8,), total=False) == 8
    assert list_started(
        schedule_runs(make_snapshot(make_queued_run("r", processes=processes)))
    ) == ["r"]
