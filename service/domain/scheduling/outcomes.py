"""What follows from the end of an attempt: pure decisions."""

from dataclasses import dataclass

from configs.protocol.failure import FailureReason
from configs.protocol.names import ExitCode
from configs.protocol.records import Outcome
from service.domain.ports import Job
from service.domain.runs import Run
from service.domain.scheduling.retries import RETRY_POLICIES, failure_limit, retry_delay_s
from service.domain.states import RunState

_COMMAND_NOT_FOUND = 127
_OWN_FAULT_EXITS = (ExitCode.REFUSED, 1, 2)
"""Our own refusal, Python's traceback, and an option that the command line does not know."""

_BY_EXIT: dict[int, tuple[FailureReason, str]] = {
    ExitCode.DISK_FULL: (FailureReason.DISK_FULL, "The disk of the run's folder is full."),
    ExitCode.OUT_OF_MEMORY: (FailureReason.HOST_OUT_OF_MEMORY, "The node had no more memory."),
}
_BY_SIGNAL: dict[int, tuple[FailureReason, str]] = {
    6: (FailureReason.NODE_LOST, "The trainer was aborted (SIGABRT): its log may say by what."),
    7: (
        FailureReason.HOST_OUT_OF_MEMORY,
        "The trainer lost a page of memory (SIGBUS): shared memory is full.",
    ),
    9: (FailureReason.NODE_LOST, "The trainer was killed (SIGKILL)."),
    11: (FailureReason.BUG, "The trainer crashed in compiled code (SIGSEGV)."),
    15: (FailureReason.PREEMPTED, "The trainer was asked to leave (SIGTERM)."),
}
_MEMORY_WORDS = ("out of memory", "outofmemory", "oom")


@dataclass(frozen=True)
class AttemptVerdict:
    """What a run becomes after an attempt."""

    state: RunState
    reason: FailureReason | None
    message: str
    consecutive_failures: int = 0
    """Bad ends in a row without progress, this one included."""

    retry_delay_s: float = 0.0
    """How long the run rests before its next attempt."""


def conclude_attempt(
    run: Run, job: Job | None, outcome: Outcome | None, *, max_consecutive_failures: int
) -> AttemptVerdict:
    """The state after an attempt whose job is over (or unknown to the cluster: none).

    The worker's last word decides; without one, the job's exit code. What cannot pass by itself
    ends a run whatever was wished of it; then the wishes count; then the budget of the cause.
    """
    if _has_succeeded(job, outcome):
        return AttemptVerdict(RunState.SUCCEEDED, None, "")
    if run.desired == "cancelled" or _was_cancelled(job, outcome):
        return AttemptVerdict(RunState.CANCELLED, None, "Cancelled as asked.")
    reason, message = _cause(job, outcome)
    if reason not in RETRY_POLICIES:
        return AttemptVerdict(RunState.FAILED, reason, message)
    if run.stop_kind is not None or _has_left_as_asked(job, outcome):
        return _after_leaving(run)
    return _after_bad_end(run, reason, message, max_consecutive_failures=max_consecutive_failures)


def _after_leaving(run: Run) -> AttemptVerdict:
    """It left because we asked, which is no bad end."""
    if run.desired == "paused":
        return AttemptVerdict(
            RunState.PAUSED, None, "Paused as asked.", consecutive_failures=run.consecutive_failures
        )
    if run.preempted_for is not None:
        message = "It made room for another run and goes on when there is room again."
        return AttemptVerdict(
            RunState.QUEUED,
            FailureReason.PREEMPTED,
            message,
            consecutive_failures=run.consecutive_failures,
        )
    return AttemptVerdict(
        RunState.QUEUED, None, "It left and goes on.", consecutive_failures=run.consecutive_failures
    )


def _after_bad_end(
    run: Run, reason: FailureReason, message: str, *, max_consecutive_failures: int
) -> AttemptVerdict:
    consecutive_failures = 1 if _got_further(run) else run.consecutive_failures + 1
    most = failure_limit(reason, limit=max_consecutive_failures)
    if consecutive_failures >= most:
        message = (
            f"{message} It was bad end {consecutive_failures} of {most} in a row without progress."
        )
        return AttemptVerdict(RunState.FAILED, reason, message, consecutive_failures)
    rest_s = retry_delay_s(reason, consecutive_failures=consecutive_failures)
    soon = f", after {rest_s:g} s" if rest_s else ""
    message = f"{message} Another attempt goes on from the last checkpoint{soon}."
    return AttemptVerdict(RunState.QUEUED, reason, message, consecutive_failures, rest_s)


def _got_further(run: Run) -> bool:
    """Whether this attempt trained beyond all before it: then its end is the first of a row."""
    return run.progress is not None and run.progress.step > run.max_step


def _has_succeeded(job: Job | None, outcome: Outcome | None) -> bool:
    if outcome is not None:
        return outcome.result == "succeeded"
    return job is not None and job.state == "succeeded"


def _was_cancelled(job: Job | None, outcome: Outcome | None) -> bool:
    if outcome is not None:
        return outcome.result == "cancelled"
    return job is not None and job.exit_code == ExitCode.CANCELLED


def _has_left_as_asked(job: Job | None, outcome: Outcome | None) -> bool:
    if outcome is not None:
        return outcome.result == "stopped"
    return job is not None and job.exit_code == ExitCode.STOPPED


def _cause(job: Job | None, outcome: Outcome | None) -> tuple[FailureReason, str]:
    if _has_left_as_asked(job, outcome):
        return FailureReason.PREEMPTED, "It left as asked."
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
    said = job.message or job.state
    is_killed = job.exit_code not in set(ExitCode)
    if is_killed and any(word in said.lower() for word in _MEMORY_WORDS):
        return FailureReason.HOST_OUT_OF_MEMORY, f"The node ran out of memory: {said}."
    if job.exit_code in _BY_EXIT:
        return _BY_EXIT[job.exit_code]
    signal = _signal_of(job.exit_code)
    if signal in _BY_SIGNAL:
        return _BY_SIGNAL[signal]
    if job.state == "stopped":
        return FailureReason.PREEMPTED, "The job was stopped, and not by us."
    return FailureReason.NODE_LOST, f"The job ended without a last word: {said}."


def _signal_of(exit_code: int | None) -> int | None:
    """The signal that ended a process: -9, or 137 where a shell lies between."""
    if exit_code is None:
        return None
    if exit_code < 0:
        return -exit_code
    return exit_code - 128 if 128 < exit_code < 128 + 65 else None
