"""Files of an attempt, and the failures behind Ray's errors."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.protocol.records import Outcome
from tests.support.workers.records import make_run_spec
from workers.attempt.failures import is_peer_failure
from workers.attempt.files import (
    AttemptFiles,
    FailureReporter,
    ProcessFailure,
    ProcessSpec,
    complete_spool_bytes,
)
from workers.ray_train.launcher import Placement, failure_from_ray
from workers.ray_train.worker import diagnose_process_failure
from workers.telemetry.identity import AttemptIdentity

PEER_LOST = RuntimeError("[/x/gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer")
LOST = WorkerHealthCheckFailedError("A worker died.", ActorDiedError())
BUG_FAILURE = ProcessFailure(reason=FailureReason.BUG, message="it broke")


def make_group_error(**errors: Exception) -> WorkerGroupError:
    by_rank = {int(name.removeprefix("rank")): error for name, error in errors.items()}
    return WorkerGroupError("somebody failed", by_rank)


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (make_group_error(rank1=LOST), FailureReason.NODE_LOST, "lost (rank 1)"),
        (make_group_error(rank0=PEER_LOST, rank2=LOST), FailureReason.NODE_LOST, "lost (rank 2)"),
        (make_group_error(rank0=PEER_LOST, rank1=PEER_LOST), FailureReason.NODE_LOST, "rank 0, 1"),
        (make_group_error(rank1=KeyError("x")), FailureReason.BUG, "KeyError: 'x' (rank 1)"),
        (
            make_group_error(
                rank1=WorkerHealthCheckFailedError("A worker died.", OutOfMemoryError("full"))
            ),
            FailureReason.HOST_OUT_OF_MEMORY,
            "memory (rank 1)",
        ),
        (
            ControllerError(WorkerGroupStartupTimeoutError(2)),
            FailureReason.NODE_LOST,
            "could not be started",
        ),
        (RayActorError(), FailureReason.NODE_LOST, "RayActorError"),
        (ConnectionError("no head"), FailureReason.NODE_LOST, "no head"),
        (KeyError("x"), FailureReason.BUG, "KeyError"),
    ],
    ids=[
        "killed",
        "killed, and another noticed",
        "out of touch",
        "broken code",
        "no memory",
        "no room",
        "the controller died",
        "nobody at its address",
        "our own fault",
    ],
)
def test_an_error_of_ray_has_a_cause(error: Exception, reason: FailureReason, text: str) -> None:
    failure = failure_from_ray(error, nodes={})

    assert failure.reason is reason
    assert text in failure.message


@pytest.mark.parametrize(
    ("error", "node_id"),
    [
        (make_group_error(rank1=LOST), "n1"),
        (make_group_error(rank2=LOST, rank3=LOST), "n2"),
        (make_group_error(rank0=LOST, rank2=LOST), None),
        (make_group_error(rank9=LOST), None),
        (make_group_error(rank0=PEER_LOST, rank1=LOST), "n1"),
        (make_group_error(rank0=PEER_LOST, rank1=PEER_LOST), None),
        (make_group_error(rank0=PEER_LOST, rank2=KeyError("x")), "n2"),
        (
            make_group_error(
                rank1=WorkerHealthCheckFailedError("A worker died.", OutOfMemoryError("full"))
            ),
            "n1",
        ),
        (ControllerError(WorkerGroupStartupTimeoutError(2)), None),
    ],
    ids=[
        "killed",
        "both of one node killed",
        "on several nodes",
        "before it said where it is",
        "another noticed",
        "out of touch",
        "one failed and another noticed",
        "no memory",
        "no room",
    ],
)
def test_the_node_of_the_process_that_failed_is_named(
    error: Exception, node_id: str | None
) -> None:
    nodes = {0: "n0", 1: "n1", 2: "n2", 3: "n2"}

    assert failure_from_ray(error, nodes=nodes).node_id == node_id


def test_node_ids_of_processes_are_readable_until_the_attempt_restarts(
    tmp_path: Path,
) -> None:
    files = AttemptFiles(tmp_path, attempt=3)
    files.write_node_id(0, "n0")
    files.write_node_id(11, "n1")
    AttemptFiles(tmp_path, attempt=31).write_node_id(0, "another attempt's")

    assert files.read_node_ids() == {0: "n0", 11: "n1"}
    files.clear()

    assert files.read_node_ids() == {}


def test_a_process_that_cannot_reach_another_is_not_the_cause() -> None:
    assert is_peer_failure(PEER_LOST)
    assert not is_peer_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_process_that_fails_names_its_node_and_one_that_notices_names_none(
    tmp_path: Path,
) -> None:
    part = ProcessSpec(
        spec=make_run_spec(),
        identity=AttemptIdentity(run_id="r1"),
        run_dir=str(tmp_path),
        spool_offset=0,
        stall_timeout_s=300.0,
    )

    lost = diagnose_process_failure(
        RuntimeError("CUDA error: GPU is lost"), process_spec=part, node_id="n7"
    )

    assert lost is not None
    assert (lost.reason, lost.node_id) == (FailureReason.NODE_LOST, "n7")
    assert diagnose_process_failure(PEER_LOST, process_spec=part, node_id="n7") is None


def test_only_the_first_failure_is_recorded(tmp_path: Path) -> None:
    files = AttemptFiles(tmp_path, attempt=2)

    files.write_failure(BUG_FAILURE)
    files.write_failure(ProcessFailure(reason=FailureReason.NAN_LOSS, message="later"))

    assert files.read_failure() == BUG_FAILURE
    assert AttemptFiles(tmp_path, attempt=1).read_failure() is None


def test_a_failure_whose_writer_died_over_it_is_none(tmp_path: Path) -> None:
    (tmp_path / RunFile.LOGS).mkdir()
    (tmp_path / RunFile.LOGS / "attempt-1.failure.json").write_text('{"reason": "b')

    assert AttemptFiles(tmp_path, attempt=1).read_failure() is None


def test_a_restarted_attempt_has_no_failure_and_no_stop_request(tmp_path: Path) -> None:
    files = AttemptFiles(tmp_path, attempt=1)
    files.write_failure(BUG_FAILURE)
    files.request_stop()
    assert files.is_stop_requested()

    files.clear()

    assert files.read_failure() is None
    assert not files.is_stop_requested()


def test_a_failure_reporter_records_failures_only(tmp_path: Path) -> None:
    files = AttemptFiles(tmp_path, attempt=1)

    FailureReporter(files).report_outcome("cancelled", message="as asked")
    assert files.read_failure() is None
    FailureReporter(files).report_outcome("failed", reason=FailureReason.BUG, message="it broke")

    assert files.read_failure() == BUG_FAILURE


def test_the_outcome_is_of_the_same_attempt_and_new(tmp_path: Path) -> None:
    spool = tmp_path / RunFile.SPOOL
    assert AttemptFiles(tmp_path, attempt=1).read_outcome() is None

    spool.write_text(make_outcome_line(1) + '{"torn')
    earlier = complete_spool_bytes(tmp_path)
    spool.write_text(make_outcome_line(1) + make_outcome_line(2))

    assert AttemptFiles(tmp_path, attempt=1).read_outcome() is not None
    assert AttemptFiles(tmp_path, attempt=1, spool_offset=earlier).read_outcome() is None
    outcome = AttemptFiles(tmp_path, attempt=2, spool_offset=earlier).read_outcome()
    assert outcome is not None
    assert outcome.attempt == 2


def make_outcome_line(attempt: int) -> str:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    return Outcome(at=now, attempt=attempt, result="succeeded").model_dump_json() + "\n"


@pytest.mark.parametrize(
    ("excluded_nodes", "selector"),
    [
        ((), None),
        (("ab",), {"ray.io/node-id": "!in(ab)"}),
        (("ab", "cd"), {"ray.io/node-id": "!in(ab,cd)"}),
    ],
)
def test_excluded_nodes_become_a_label_selector(
    excluded_nodes: tuple[str, ...], selector: dict[str, str] | None
) -> None:
    placement = Placement(2, excluded_nodes)

    assert placement.label_selector == selector
    assert ScalingConfig(num_workers=2, label_selector=placement.label_selector)
