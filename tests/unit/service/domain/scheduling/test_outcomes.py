"""A worker without an outcome record: its exit code decides the run's state."""

import pytest

from configs.protocol.failure import FailureReason
from configs.protocol.names import ExitCode
from service.domain.ports import Job
from service.domain.scheduling.outcomes import conclude_attempt
from service.domain.states import RunState
from tests.support.factories import make_run

EXPECTED = {
    ExitCode.SUCCEEDED: RunState.SUCCEEDED,
    ExitCode.REFUSED: RunState.FAILED,
    ExitCode.INTERRUPTED: RunState.QUEUED,
    ExitCode.DISK_FULL: RunState.QUEUED,
    ExitCode.OUT_OF_MEMORY: RunState.QUEUED,
    ExitCode.SUPERSEDED: RunState.QUEUED,
    ExitCode.CANCELLED: RunState.CANCELLED,
    ExitCode.STOPPED: RunState.QUEUED,
}


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name)
def test_every_exit_code_leads_to_a_state(code: ExitCode) -> None:
    job = Job("succeeded" if code is ExitCode.SUCCEEDED else "failed", exit_code=code)

    verdict = conclude_attempt(
        make_run(state=RunState.RUNNING, attempt=1), job, None, max_consecutive_failures=3
    )

    assert verdict.state is EXPECTED[code]


def test_what_ray_quotes_of_a_log_is_no_cause_where_our_program_chose_its_exit_code() -> None:
    job = Job("failed", exit_code=ExitCode.INTERRUPTED, message="CUDA error: out of memory")

    verdict = conclude_attempt(
        make_run(state=RunState.RUNNING, attempt=1), job, None, max_consecutive_failures=3
    )

    assert verdict.reason is FailureReason.NODE_LOST


def test_a_node_without_our_program_is_named_and_not_tried_again() -> None:
    run = make_run(state=RunState.STARTING, attempt=1)

    verdict = conclude_attempt(run, Job("failed", exit_code=127), None, max_consecutive_failures=3)

    assert verdict.state is RunState.FAILED
    assert "tandem-worker" in verdict.message
