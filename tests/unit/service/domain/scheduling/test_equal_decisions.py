"""The scheduler decides as the simple one that compares each queued run with everything."""

import os
from datetime import timedelta
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from configs.catalog import parse_spec
from configs.spec.compute import Resources
from configs.spec.jobs import JobSpec, ReportSpec
from service.adapters.clock import FixedClock
from service.domain.ports import Node
from service.domain.scheduling.node_health import AvoidedNodes
from service.domain.scheduling.projects import Project
from service.domain.scheduling.queue import schedule_runs
from service.domain.scheduling.snapshot import (
    ClusterSnapshot,
    QueuedRun,
    ReleasedCapacity,
    RunningRun,
)
from service.domain.states import RunState
from tests.support.factories import make_run, make_spec
from tests.support.service.reference_scheduler import schedule_by_reference

EXAMPLES = int(os.environ.get("TANDEM_SCHEDULER_EXAMPLES", "60"))
NOW = FixedClock().now()
NODE_IDS = ("n0", "n1", "n2", "n3", "")
QUEUED_IDS = tuple(f"q{number}" for number in range(14))


@cache
def make_spec_with_demand(
    cpus: int, gpus: int, processes: int, min_processes: int | None, accumulation: int
) -> JobSpec:
    resources = {
        "num_cpus": cpus,
        "num_gpus": gpus,
        "processes": processes,
        "min_processes": min_processes,
    }
    spec = make_spec(resources=resources, compute={"grad_accumulation_steps": accumulation})
    spec["data"] |= {"batch_size": 72}
    return parse_spec(spec)


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    if draw(st.integers(0, 9)) == 0:
        return ReportSpec(run="r000000000000", tags={})
    processes = draw(st.sampled_from([1, 1, 1, 2, 3, 4, 8]))
    least = draw(st.none() | st.integers(1, processes - 1)) if processes > 1 else None
    return make_spec_with_demand(
        draw(st.sampled_from([1, 1, 2, 3])),
        draw(st.integers(0, 1)),
        processes,
        least,
        draw(st.sampled_from([1, 3])),
    )


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    cpus, gpus = draw(st.integers(0, 8)), draw(st.integers(0, 4))
    free = draw(st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0]))
    node_id = draw(st.sampled_from(NODE_IDS))
    return Node(cpus, gpus, cpus * free, float(int(gpus * free)), node_id)


ages = st.integers(0, 300).map(lambda seconds: NOW - timedelta(seconds=seconds))
node_ids = st.none() | st.sampled_from((*NODE_IDS[:4], "gone"))


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "spec": draw(specs()),
        "priority": draw(st.integers(-1, 1)),
        "project": draw(st.sampled_from("abc")),
        "created_at": draw(ages),
        "updated_at": draw(ages),
        "not_before": draw(st.none() | ages),
    }


@st.composite
def queues(draw: st.DrawFn) -> list[QueuedRun]:
    kinds = draw(st.lists(changes(), min_size=1, max_size=3))
    queue = []
    for run_id in QUEUED_IDS[: draw(st.integers(0, len(QUEUED_IDS)))]:
        # Equal requests are what is decided together.
        fields = draw(st.sampled_from(kinds)) | {"created_at": draw(ages)}
        mates = draw(st.sampled_from([0, 0, 0, 2]))
        queue.append(
            QueuedRun(
                make_run(id=run_id, **fields),
                blocked_by=draw(st.sampled_from([None] * 5 + ["its teacher"])),
                allows_fewer=draw(st.booleans()),
                packmates=tuple(make_run(id=f"{run_id}m{n}", **fields) for n in range(mates)),
            )
        )
    return queue


@st.composite
def active_runs(draw: st.DrawFn) -> list[RunningRun]:
    active = []
    for number in range(draw(st.integers(0, 10))):
        fields = draw(changes()) | {
            "state": RunState.RUNNING,
            "preempted_for": draw(st.none() | st.none() | st.sampled_from(QUEUED_IDS)),
            "desired": draw(st.sampled_from(["run"] * 4 + ["cancelled"])),
        }
        run = make_run(id=f"h{number}", **fields)
        processes = draw(st.integers(1, run.spec.resources.processes))
        mates = (make_run(id=f"h{number}m", **fields | {"preempted_for": None}),)
        active.append(
            RunningRun(run, processes, draw(node_ids), mates * draw(st.sampled_from([0, 0, 1])))
        )
    return active


@st.composite
def snapshots(draw: st.DrawFn) -> ClusterSnapshot:
    avoided = st.frozensets(st.sampled_from(NODE_IDS[:4]), max_size=2)
    for_all = draw(st.just(frozenset()) | avoided)
    return ClusterSnapshot(
        now=NOW,
        nodes=tuple(draw(st.lists(nodes(), max_size=5))),
        queued=draw(queues()),
        running=draw(active_runs()),
        released=draw(
            st.lists(
                st.builds(
                    ReleasedCapacity,
                    st.builds(Resources, num_cpus=st.integers(1, 2), num_gpus=st.integers(0, 1)),
                    st.integers(1, 3),
                    node_ids,
                ),
                max_size=3,
            )
        ),
        projects={
            name: Project(
                name,
                weight=draw(st.sampled_from([0.5, 1.0, 3.0])),
                max_runs=draw(st.none() | st.none() | st.integers(0, 4)),
                max_gpus=draw(st.none() | st.none() | st.integers(0, 4)),
            )
            for name in draw(st.sampled_from(["", "a", "abc"]))
        },
        avoid=AvoidedNodes(for_all, for_all | draw(st.just(frozenset()) | avoided)),
        backfill_timeout_s=draw(st.sampled_from([0.0, 120.0, 1000.0])),
    )


@given(snapshot=snapshots())
@settings(max_examples=EXAMPLES)
def test_decisions_are_those_of_the_simple_scheduler(snapshot: ClusterSnapshot) -> None:
    assert schedule_runs(snapshot) == schedule_by_reference(snapshot)
