"""What follows from the end of an attempt: pure decisions."""

from dataclasses import dataclass
from typing import Literal

from configs.spec import ExitCode, FailureReason, Outcome, is_retryable
from service.domain.runs import Run
from service.domain.states import RunState

JobState = Literal["pending", "running", "stopped", "succeeded", "failed"]

_SIGKILL_EXITS = (-9, 137)
_COMMAND_NOT_FOUND = 127
_OWN_FAULT_EXITS = (ExitCode.REFUSED, 1, 2)
"""Our own refusal, Python's traceback, and an option that the command line does not know."""


@dataclass(frozen=True)
class Job:
    """What the cluster says of an attempt's job."""

    state: JobState
    exit_code: int | None = None
    message: str = ""

    @property
    def is_over(self) -> bool:
        """Whether its processes are gone."""
        return self.state in ("stopped", "succeeded", "failed")


@dataclass(frozen=True)
class Verdict:
    """What a run becomes after an attempt."""

    state: RunState
    reason: FailureReason | None
    message: str


def after_attempt(
    run: Run, job: Job | None, outcome: Outcome | None, *, max_attempts: int
) -> Verdict:
    """The state after an attempt whose job is over (or unknown to the cluster: none).

    The worker's last word decides; without one, the job's exit code.
    """
    if _has_succeeded(job, outcome):
        return Verdict(RunState.SUCCEEDED, None, "")
    if run.desired == "cancelled" or _was_cancelled(job, outcome):
        return Verdict(RunState.CANCELLED, None, "Cancelled as asked.")
    reason, message = _cause(job, outcome)
    if is_retryable(reason) and run.attempt < max_attempts:
        more = "Another attempt goes on from the last checkpoint."
        return Verdict(RunState.QUEUED, reason, f"{message} {more}")
    if is_retryable(reason):
        message = f"{message} It was the last of {max_attempts} attempts."
    return Verdict(RunState.FAILED, reason, message)


def _has_succeeded(job: Job | None, outcome: Outcome | None) -> bool:
    if outcome is not None:
        return outcome.result == "succeeded"
    return job is not None and job.state == "succeeded"


def _was_cancelled(job: Job | None, outcome: Outcome | None) -> bool:
    if outcome is not None:
        return outcome.result == "cancelled"
    return job is not None and job.exit_code == ExitCode.CANCELLED


def _cause(job: Job | None, outcome: Outcome | None) -> tuple[FailureReason, str]:
    if outcome is not None:
        return outcome.reason or FailureReason.BUG, outcome.message
    if job is None:
        message = "The cluster does not know the job and nothing is heard of it."
        return FailureReason.NODE_LOST, message
    if job.exit_code == _COMMAND_NOT_FOUND:
        return FailureReason.BUG, "The node has no `tandem-worker`; install Tandem there."
    if job.exit_code in _OWN_FAULT_EXITS:
        message = f"The trainer ended with exit code {job.exit_code} before it could report."
        return FailureReason.BUG, message
    return _cause_outside(job)


def _cause_outside(job: Job) -> tuple[FailureReason, str]:
    if job.exit_code in _SIGKILL_EXITS:
        return FailureReason.NODE_LOST, "The trainer was killed (SIGKILL)."
    if job.state == "stopped":
        return FailureReason.PREEMPTED, "The job was stopped, and not by us."
    said = job.message or job.state
    return FailureReason.NODE_LOST, f"The job ended without a last word: {said}."
