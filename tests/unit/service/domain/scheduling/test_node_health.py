"""Which nodes are avoided, and for which runs."""

from datetime import timedelta
from typing import Any

import pytest

from configs.protocol.failure import FailureReason
from service.adapters.clock import FixedClock
from service.domain.runs import Attempt
from service.domain.scheduling.node_health import AvoidedNodes, find_nodes_to_avoid

NOW = FixedClock().now()
LOST = FailureReason.NODE_LOST


def make_attempt(
    number: int, reason: FailureReason | None = LOST, *, node_id: str | None = "n1", **changes: Any
) -> Attempt:
    return Attempt(
        run_id="r1",
        number=number,
        submission_id=f"r1-a{number}",
        created_at=NOW,
        ended_at=NOW,
        node_id=node_id,
        reason=reason,
        **changes,
    )


def find_avoided(*attempts: Attempt) -> AvoidedNodes:
    return find_nodes_to_avoid(attempts, now=NOW)


def make_attempts(count: int, reason: FailureReason | None = LOST, **changes: Any) -> list[Attempt]:
    return [make_attempt(number, reason, **changes) for number in range(1, count + 1)]


NO_NODES = AvoidedNodes()
FOR_ALL = AvoidedNodes(frozenset({"n1"}), frozenset({"n1"}))
FOR_GPUS = AvoidedNodes(frozenset(), frozenset({"n1"}))


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        (make_attempts(2), NO_NODES),
        (make_attempts(3), FOR_ALL),
        (make_attempts(1, num_gpus=1), NO_NODES),
        (make_attempts(2, num_gpus=1), FOR_GPUS),
        (make_attempts(9, num_gpus=1), FOR_GPUS),
        (make_attempts(2, FailureReason.HOST_OUT_OF_MEMORY, num_gpus=1), NO_NODES),
        (make_attempts(3, FailureReason.HOST_OUT_OF_MEMORY, num_gpus=1), FOR_ALL),
        (make_attempts(9, FailureReason.BUG, num_gpus=1), NO_NODES),
        (make_attempts(9, FailureReason.CUDA_OUT_OF_MEMORY, num_gpus=1), NO_NODES),
        (make_attempts(9, node_id=None), NO_NODES),
    ],
    ids=[
        "twice",
        "three times",
        "a GPU once",
        "a GPU twice",
        "a GPU often",
        "memory twice",
        "memory three times",
        "own faults",
        "own size",
        "on no node that is known",
    ],
)
def test_faults_are_counted_by_kind_of_work(
    attempts: list[Attempt], expected: AvoidedNodes
) -> None:
    assert find_avoided(*attempts) == expected


def test_losses_with_and_without_gpus_add_up_for_gpus() -> None:
    attempts = [make_attempt(1, num_gpus=1), make_attempt(2), make_attempt(3)]

    assert find_avoided(*attempts) == FOR_GPUS


def test_an_end_that_is_well_with_a_gpu_takes_all_back() -> None:
    succeeded = make_attempt(3, None, num_gpus=1)

    assert find_avoided(*make_attempts(2, num_gpus=1), succeeded) == NO_NODES


def test_an_end_that_is_well_without_a_gpu_says_nothing_of_it() -> None:
    assert find_avoided(*make_attempts(2, num_gpus=1), make_attempt(3, None)) == FOR_GPUS


def test_members_of_a_pack_lose_their_node_once() -> None:
    attempts = make_attempts(8, num_gpus=1, pack_job="pack-1")

    assert find_avoided(*attempts) == NO_NODES
    assert find_avoided(*attempts, make_attempt(9, num_gpus=1, pack_job="pack-2")) == FOR_GPUS


def test_what_is_long_ago_does_not_count() -> None:
    long_ago = NOW + timedelta(seconds=1801)

    assert find_nodes_to_avoid(make_attempts(9), now=long_ago) == NO_NODES
