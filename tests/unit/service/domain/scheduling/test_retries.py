"""What follows from the end of an attempt, for every failure reason."""

from typing import Any

import pytest

from configs.protocol.failure import FailureReason, advice, is_retryable
from configs.protocol.records import Outcome, Progress
from service.adapters.clock import FixedClock
from service.domain.ports import Job
from service.domain.scheduling.outcomes import conclude_attempt
from service.domain.scheduling.retries import RETRY_POLICIES, retry_delay_s
from service.domain.states import RunState
from tests.support.factories import make_run

NOW = FixedClock().now()
FAILED = Job("failed", exit_code=20)


def make_outcome(reason: FailureReason) -> Outcome:
    return Outcome(at=NOW, attempt=1, result="failed", reason=reason, message="it broke")


@pytest.mark.parametrize("reason", FailureReason)
def test_every_cause_has_advice_and_leads_to_a_state(reason: FailureReason) -> None:
    run = make_run(state=RunState.RUNNING, attempt=1)

    verdict = conclude_attempt(run, FAILED, make_outcome(reason), max_consecutive_failures=3)

    assert advice(reason)
    assert verdict.state is (RunState.QUEUED if is_retryable(reason) else RunState.FAILED)
    assert verdict.reason is reason


@pytest.mark.parametrize("reason", FailureReason)
def test_the_third_bad_end_without_progress_is_the_last(reason: FailureReason) -> None:
    run = make_run(state=RunState.RUNNING, attempt=7, consecutive_failures=2, max_step=10)

    verdict = conclude_attempt(run, FAILED, make_outcome(reason), max_consecutive_failures=3)

    assert verdict.state is RunState.FAILED


@pytest.mark.parametrize("reason", FailureReason)
def test_what_may_pass_has_a_pause_that_grows_and_ends(reason: FailureReason) -> None:
    assert (reason in RETRY_POLICIES) == is_retryable(reason)
    if reason in RETRY_POLICIES:
        pauses = [
            retry_delay_s(reason, consecutive_failures=consecutive_failures)
            for consecutive_failures in range(1, 40)
        ]
        assert pauses == sorted(pauses)
        assert pauses[-1] == RETRY_POLICIES[reason].max_delay_s


def test_a_bad_end_after_progress_is_the_first_of_a_row_again() -> None:
    progress = Progress(
        at=NOW, attempt=9, phase="training", epoch=2, epochs=4, step=11, steps=40, eta_s=None
    )
    run = make_run(
        state=RunState.RUNNING, attempt=9, consecutive_failures=2, max_step=10, progress=progress
    )

    verdict = conclude_attempt(run, Job("failed", exit_code=-9), None, max_consecutive_failures=3)

    assert (verdict.state, verdict.consecutive_failures, verdict.retry_delay_s) == (
        RunState.QUEUED,
        1,
        0.0,
    )


LEAVING: list[tuple[dict[str, Any], RunState, FailureReason | None]] = [
    ({"desired": "paused"}, RunState.PAUSED, None),
    ({"preempted_for": "r1"}, RunState.QUEUED, FailureReason.PREEMPTED),
    ({}, RunState.QUEUED, None),
]


@pytest.mark.parametrize(
    ("wishes", "state", "reason"), LEAVING, ids=["pause", "preempt", "resumed meanwhile"]
)
def test_an_attempt_that_stopped_as_requested_is_no_failure(
    wishes: dict[str, Any], state: RunState, reason: FailureReason | None
) -> None:
    run = make_run(state=RunState.RUNNING, attempt=1, consecutive_failures=2, **wishes)
    outcome = Outcome(at=NOW, attempt=1, result="stopped")

    verdict = conclude_attempt(
        run, Job("failed", exit_code=50), outcome, max_consecutive_failures=3
    )

    assert (verdict.state, verdict.reason) == (state, reason)
    assert (verdict.consecutive_failures, verdict.retry_delay_s) == (2, 0.0)


@pytest.mark.parametrize(("wishes", "state", "reason"), LEAVING[:2], ids=["pause", "preempt"])
def test_an_attempt_that_had_to_be_killed_to_leave_is_no_bad_end(
    wishes: dict[str, Any], state: RunState, reason: FailureReason | None
) -> None:
    run = make_run(state=RunState.RUNNING, attempt=1, consecutive_failures=2, **wishes)

    verdict = conclude_attempt(run, Job("failed", exit_code=-9), None, max_consecutive_failures=3)

    assert (verdict.state, verdict.reason, verdict.consecutive_failures) == (state, reason, 2)


@pytest.mark.parametrize("wishes", [{"desired": "paused"}, {"preempted_for": "r1"}])
def test_what_cannot_pass_ends_a_run_whatever_was_wished(wishes: dict[str, Any]) -> None:
    run = make_run(state=RunState.RUNNING, attempt=1, **wishes)

    verdict = conclude_attempt(
        run, FAILED, make_outcome(FailureReason.NAN_LOSS), max_consecutive_failures=3
    )

    assert verdict.state is RunState.FAILED


def test_success_is_success_even_if_the_job_was_stopped_afterwards() -> None:
    run = make_run(state=RunState.RUNNING, attempt=1, desired="cancelled")
    outcome = Outcome(at=NOW, attempt=1, result="succeeded")

    verdict = conclude_attempt(run, Job("stopped"), outcome, max_consecutive_failures=3)

    assert verdict.state is RunState.SUCCEEDED


def test_a_run_that_was_to_be_cancelled_is_cancelled_however_it_ends() -> None:
    run = make_run(state=RunState.RUNNING, attempt=1, desired="cancelled")

    verdict = conclude_attempt(run, Job("failed", exit_code=-9), None, max_consecutive_failures=3)

    assert verdict.state is RunState.CANCELLED


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (None, FailureReason.NODE_LOST),
        (Job("failed", exit_code=-9), FailureReason.NODE_LOST),
        (Job("failed", exit_code=1), FailureReason.BUG),
        (Job("failed", exit_code=2), FailureReason.BUG),
        (Job("failed"), FailureReason.NODE_LOST),
        (Job("stopped"), FailureReason.PREEMPTED),
        (Job("failed", exit_code=143), FailureReason.PREEMPTED),
        (Job("failed", exit_code=-6), FailureReason.NODE_LOST),
        (Job("failed", exit_code=135), FailureReason.HOST_OUT_OF_MEMORY),
        (Job("failed", exit_code=-11), FailureReason.BUG),
        (Job("failed", -9, "the node ran out of memory"), FailureReason.HOST_OUT_OF_MEMORY),
    ],
    ids=[
        "unknown job",
        "killed",
        "python error",
        "bad options",
        "no exit code",
        "stopped",
        "terminated",
        "aborted",
        "bus error",
        "segmentation fault",
        "killed by Ray for memory",
    ],
)
def test_a_cause_is_derived_where_the_worker_could_not_say_one(
    job: Job | None, reason: FailureReason
) -> None:
    run = make_run(state=RunState.RUNNING, attempt=1)

    verdict = conclude_attempt(run, job, None, max_consecutive_failures=3)

    assert verdict.reason is reason
    assert verdict.message
