"""Where processes fit and how many of them start."""

import pytest

from configs.catalog import parse_spec
from configs.spec.compute import Resources
from configs.spec.run import RunSpec
from service.domain.ports import Node
from service.domain.scheduling.capacity import (
    choose_num_processes,
    count_slots,
    describe_fewer_processes,
    gpu_kinds,
)
from service.domain.scheduling.slots import FreeCapacity
from tests.support.factories import make_spec

GPU = Resources(processes=4, num_cpus=2, num_gpus=1)
CPU = Resources(processes=4, num_cpus=2)


def make_node(cpus: float, gpus: float = 0.0, *, free: tuple[float, float] | None = None) -> Node:
    free_cpus, free_gpus = free or (cpus, gpus)
    return Node(cpus, gpus, free_cpus, free_gpus)


def make_group_spec(
    processes: int, *, least: int | None = None, accumulate: int = 1, batch: int = 24
) -> RunSpec:
    spec = make_spec(
        resources={"processes": processes, "min_processes": least},
        compute={"grad_accumulation_steps": accumulate},
    )
    spec["data"] |= {"batch_size": batch}
    return parse_spec(spec)


def test_kinds_of_gpus_are_those_of_nodes_where_a_process_could_run() -> None:
    a100, t4, small = (
        Node(cpus, 8.0, cpus, 0.0, gpu_kind=kind)
        for cpus, kind in ((16.0, "A100"), (16.0, "T4"), (1.0, "L4"))
    )

    assert gpu_kinds(GPU, (a100, t4, small, make_node(16, 8))) == {"A100", "T4"}
    assert gpu_kinds(CPU, (a100, t4)) == set()


@pytest.mark.parametrize(
    ("resources", "nodes", "slots"),
    [
        (CPU, (), 0),
        (CPU, (make_node(3), make_node(3)), 2),
        (CPU, (make_node(4), make_node(2), make_node(1)), 3),
        (GPU, (make_node(16, 2), make_node(3, 8)), 3),
        (GPU, (make_node(16, 0),), 0),
        (GPU, (make_node(8, 8, free=(8, 1)),), 1),
    ],
    ids=[
        "no node",
        "halves on two nodes are no place",
        "nodes of three sizes",
        "GPUs here, CPUs there",
        "no GPU",
        "GPUs in use",
    ],
)
def test_places_are_counted_node_by_node(
    resources: Resources, nodes: tuple[Node, ...], slots: int
) -> None:
    assert count_slots(resources, nodes, total=False) == slots


def test_what_is_in_use_counts_for_what_could_ever_fit() -> None:
    nodes = (make_node(8, free=(0, 0)),)

    assert count_slots(CPU, nodes, total=True) == 4
    assert count_slots(CPU, nodes, total=False) == 0


def test_places_are_taken_from_the_first_node_on() -> None:
    free = FreeCapacity((make_node(16, 2), make_node(16, 8)))

    free.reserve(GPU, processes=3)

    nodes = free.to_nodes()
    assert [(node.free_cpus, node.free_gpus) for node in nodes] == [(12, 0), (14, 7)]
    assert [node.total_gpus for node in nodes] == [2, 8]


def test_more_processes_than_places_take_what_there_is() -> None:
    free = FreeCapacity((make_node(4),))

    free.reserve(CPU, processes=4)

    assert [node.free_cpus for node in free.to_nodes()] == [0]


STARTS: dict[str, tuple[RunSpec, int, bool, int | None]] = {
    "room for all": (make_group_spec(4), 4, False, 4),
    "more room than needed": (make_group_spec(4, least=1), 9, True, 4),
    "one place too few": (make_group_spec(4), 3, True, None),
    "the first attempt waits": (make_group_spec(4, least=1), 3, False, None),
    "three do not share four pieces": (make_group_spec(4, least=1), 3, True, 2),
    "three share twelve pieces": (make_group_spec(4, least=1, accumulate=3), 3, True, 3),
    "fewer than the least": (make_group_spec(8, least=4), 3, True, None),
    "none between the least and the room": (make_group_spec(4, least=3), 3, True, None),
    "just the least": (make_group_spec(8, least=4), 4, True, 4),
    "no room at all": (make_group_spec(4, least=1), 0, True, None),
    "one process, no room": (make_group_spec(1), 0, True, None),
    "one process": (make_group_spec(1), 1, False, 1),
}


@pytest.mark.parametrize(
    ("spec", "slots", "allows_fewer", "started"), STARTS.values(), ids=STARTS.keys()
)
def test_as_many_start_as_fit_and_share_every_batch(
    spec: RunSpec, slots: int, allows_fewer: bool, started: int | None
) -> None:
    assert choose_num_processes(spec, slots=slots, allows_fewer=allows_fewer) == started


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (2, "Resumes with 2 of 4 processes and twice as many micro-batches."),
        (
            1,
            "Resumes with 1 of 4 processes and 4 times as many micro-batches.",
        ),
        (
            3,
            "Resumes with 3 of 4 processes and 1.33 times as many micro-batches.",
        ),
    ],
)
def test_fewer_processes_are_told_in_words(processes: int, message: str) -> None:
    assert (
        describe_fewer_processes(make_group_spec(4, least=1, accumulate=3).resources, processes)
        == message
    )
