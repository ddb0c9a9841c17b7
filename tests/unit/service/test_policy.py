"""What follows from the end of an attempt, for every cause."""

import pytest

from configs.spec import FailureReason, Outcome, advice, is_retryable
from service.adapters.clock import FixedClock
from service.domain.policy import Job, after_attempt
from service.domain.states import RunState
from tests.factories import a_run

NOW = FixedClock().now()
FAILED = Job("failed", exit_code=20)


def an_outcome(reason: FailureReason) -> Outcome:
    return Outcome(at=NOW, attempt=1, result="failed", reason=reason, message="it broke")


@pytest.mark.parametrize("reason", FailureReason)
def test_every_cause_has_advice_and_leads_to_a_state(reason: FailureReason) -> None:
    run = a_run(state=RunState.RUNNING, attempt=1)

    verdict = after_attempt(run, FAILED, an_outcome(reason), max_attempts=3)

    assert advice(reason)
    assert verdict.state is (RunState.QUEUED if is_retryable(reason) else RunState.FAILED)
    assert verdict.reason is reason


@pytest.mark.parametrize("reason", FailureReason)
def test_the_last_attempt_is_the_last(reason: FailureReason) -> None:
    run = a_run(state=RunState.RUNNING, attempt=3)

    verdict = after_attempt(run, FAILED, an_outcome(reason), max_attempts=3)

    assert verdict.state is RunState.FAILED


def test_success_is_success_even_if_the_job_was_stopped_afterwards() -> None:
    run = a_run(state=RunState.RUNNING, attempt=1, desired="cancelled")
    outcome = Outcome(at=NOW, attempt=1, result="succeeded")

    verdict = after_attempt(run, Job("stopped"), outcome, max_attempts=3)

    assert verdict.state is RunState.SUCCEEDED


def test_a_run_that_was_to_be_cancelled_is_cancelled_however_it_ends() -> None:
    run = a_run(state=RunState.RUNNING, attempt=1, desired="cancelled")

    verdict = after_attempt(run, Job("failed", exit_code=-9), None, max_attempts=3)

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
    ],
    ids=["unknown job", "killed", "python error", "bad options", "no exit code", "stopped"],
)
def test_a_cause_is_derived_where_the_worker_could_not_say_one(
    job: Job | None, reason: FailureReason
) -> None:
    run = a_run(state=RunState.RUNNING, attempt=1)

    verdict = after_attempt(run, job, None, max_attempts=3)

    assert verdict.reason is reason
    assert verdict.message
