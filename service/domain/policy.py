"""What follows from the end of an attempt: pure decisions."""

from dataclasses import dataclass
from typing import Literal

from configs.spec import ExitCode, FailureReason, Outcome, is_retryable
from service.domain.runs import Run
from service.domain.states import RunState

JobState = Literal["pending", "running", "stopped", "succeeded", "failed"]

_SIGKILL_EXITS = (-9, 137)


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
    """The state after an attempt whose job is over (or unknown to the cluster: none)."""
    if outcome is not None and outcome.result == "succeeded":
        return Verdict(RunState.SUCCEEDED, None, "")
    if run.desired == "cancelled" or (outcome is not None and outcome.result == "cancelled"):
        return Verdict(RunState.CANCELLED, None, "Cancelled as asked.")
    reason, message = _cause(job, outcome)
    if is_retryable(reason) and run.attempt < max_attempts:
        return Verdict(
            RunState.QUEUED, reason, f"{message} Another attempt goes on from the last checkpoint."
        )
    if is_retryable(reason):
        message = f"{message} It was the last of {max_attempts} attempts."
    return Verdict(RunState.FAILED, reason, message)


def _cause(job: Job | None, outcome: Outcome | None) -> tuple[FailureReason, str]:
    if outcome is not None and outcome.reason is not None:
        return outcome.reason, outcome.message
    if job is None:
        return (
            FailureReason.NODE_LOST,
            "The cluster does not know the job and nothing is heard of it.",
        )
    if job.exit_code in (ExitCode.REFUSED, 1, 2):
        return (
            FailureReason.BUG,
            f"The trainer ended with exit code {job.exit_code} before it could report.",
        )
    if job.exit_code in _SIGKILL_EXITS:
        return FailureReason.NODE_LOST, "The trainer was killed (SIGKILL)."
    return (
        FailureReason.NODE_LOST,
        f"The job ended without a last word: {job.message or job.state}.",
    )
