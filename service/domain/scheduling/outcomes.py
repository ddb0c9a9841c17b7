"""Decides what a run becomes when an attempt ends; no I/O."""

from dataclasses import dataclass

from configs.protocol.failure import FailureReason
from configs.protocol.names import ExitCode
from configs.protocol.records import Outcome
from service.domain.ports import Job
from service.domain.runs import Run
from service.domain.scheduling.retries import RETRY_POLICIES, failure_limit, retry_delay_s
from service.domain.states import RunState

_COMMAND_NOT_FOUND = 127
_BUG_EXIT_CODES = (ExitCode.REFUSED, 1, 2)
"""A job that `tandem-worker` rejects, an uncaught exception, and an unknown option."""

_CAUSE_BY_EXIT_CODE: dict[int, tuple[FailureReason, str]] = {
    ExitCode.DISK_FULL: (FailureReason.DISK_FULL, "The disk of the run's folder is full."),
    ExitCode.OUT_OF_MEMORY: (FailureReason.HOST_OUT_OF_MEMORY, "The node ran out of memory."),
}
_CAUSE_BY_SIGNAL: dict[int, tuple[FailureReason, str]] = {
    6: (FailureReason.NODE_LOST, "The trainer was aborted (SIGABRT); its log may say why."),
    7: (
        FailureReason.HOST_OUT_OF_MEMORY,
        "The trainer lost a page of memory (SIGBUS): shared memory is full.",
    ),
    9: (FailureReason.NODE_LOST, "The trainer was killed (SIGKILL)."),
    11: (FailureReason.BUG, "The trainer crashed in compiled code (SIGSEGV)."),
    15: (FailureReason.PREEMPTED, "The trainer was terminated (SIGTERM)."),
}
_OUT_OF_MEMORY_PHRASES = ("out of memory", "outofmemory", "oom")


@dataclass(frozen=True)
class AttemptVerdict:
    """What a run becomes after an attempt."""

    state: RunState
    reason: FailureReason | None
    message: str
    consecutive_failures: int = 0
    """Failed attempts in a row without progress, this one included."""

    retry_delay_s: float = 0.0
    """How long the run waits before its next attempt."""


def conclude_attempt(
    run: Run, job: Job | None, outcome: Outcome | None, *, max_consecutive_failures: int
) -> AttemptVerdict:
    """The state after an attempt whose job is over; `job` is None if the cluster does not know it.

    The worker's outcome decides; without one, the job's exit code. A cause that would recur fails
    the run whatever was requested; then requests count; then the retry policy of the cause.
    """
    if _has_succeeded(job, outcome):
        return AttemptVerdict(RunState.SUCCEEDED, None, "")
    if run.desired == "cancelled" or _was_cancelled(job, outcome):
        return AttemptVerdict(RunState.CANCELLED, None, "Cancelled as requested.")
    reason, message = _failure_cause(job, outcome)
    if reason not in RETRY_POLICIES:
        return AttemptVerdict(RunState.FAILED, reason, message)
    if run.stop_kind is not None or _was_stopped(job, outcome):
        return _verdict_after_stop(run)
    return _verdict_after_failure(
        run, reason, message, max_consecutive_failures=max_consecutive_failures
    )


def _verdict_after_stop(run: Run) -> AttemptVerdict:
    """A requested stop does not count as a failure."""
    state, reason, message = RunState.QUEUED, None, "Stopped; it resumes with its next attempt."
    if run.desired == "paused":
        state, message = RunState.PAUSED, "Paused as requested."
    elif run.queue.preempted_for is not None:
        reason = FailureReason.PREEMPTED
        message = "Preempted for another run; it resumes when there is capacity."
    return AttemptVerdict(state, reason, message, run.retries.consecutive_failures)


def _verdict_after_failure(
    run: Run, reason: FailureReason, message: str, *, max_consecutive_failures: int
) -> AttemptVerdict:
    failures = 1 if _has_progressed(run) else run.retries.consecutive_failures + 1
    limit = failure_limit(reason, limit=max_consecutive_failures)
    if failures >= limit:
        message = f"{message} It was failure {failures} of {limit} in a row without progress."
        return AttemptVerdict(RunState.FAILED, reason, message, failures)
    delay_s = retry_delay_s(reason, consecutive_failures=failures)
    pause = f" after {delay_s:g} s" if delay_s else ""
    message = f"{message} Another attempt resumes from the last checkpoint{pause}."
    return AttemptVerdict(RunState.QUEUED, reason, message, failures, delay_s)


def _has_progressed(run: Run) -> bool:
    """Whether this attempt trained further than all before it, which resets the failure count."""
    progress = run.results.progress
    return progress is not None and progress.step > run.retries.max_step


def _has_succeeded(job: Job | None, outcome: Outcome | None) -> bool:
    if outcome is not None:
        return outcome.result == "succeeded"
    return job is not None and job.state == "succeeded"


def _was_cancelled(job: Job | None, outcome: Outcome | None) -> bool:
    if outcome is not None:
        return outcome.result == "cancelled"
    return job is not None and job.exit_code == ExitCode.CANCELLED


def _was_stopped(job: Job | None, outcome: Outcome | None) -> bool:
    if outcome is not None:
        return outcome.result == "stopped"
    return job is not None and job.exit_code == ExitCode.STOPPED


def _failure_cause(job: Job | None, outcome: Outcome | None) -> tuple[FailureReason, str]:
    if _was_stopped(job, outcome):
        return FailureReason.PREEMPTED, "It stopped as requested."
    if outcome is not None:
        return outcome.reason or FailureReason.BUG, outcome.message
    if job is None:
        message = "The cluster does not know the job, and its worker does not report."
        return FailureReason.NODE_LOST, message
    if job.exit_code == _COMMAND_NOT_FOUND:
        return FailureReason.BUG, "The node has no `tandem-worker`; install Tandem there."
    if job.exit_code in _BUG_EXIT_CODES:
        message = f"The trainer ended with exit code {job.exit_code} before it could report."
        return FailureReason.BUG, message
    return _cause_from_job(job)


def _cause_from_job(job: Job) -> tuple[FailureReason, str]:
    message = job.message or job.state
    is_killed = job.exit_code not in set(ExitCode)
    if is_killed and any(phrase in message.lower() for phrase in _OUT_OF_MEMORY_PHRASES):
        return FailureReason.HOST_OUT_OF_MEMORY, f"The node ran out of memory: {message}."
    if job.exit_code in _CAUSE_BY_EXIT_CODE:
        return _CAUSE_BY_EXIT_CODE[job.exit_code]
    signal = _signal_of(job.exit_code)
    if signal in _CAUSE_BY_SIGNAL:
        return _CAUSE_BY_SIGNAL[signal]
    if job.state == "stopped":
        return FailureReason.PREEMPTED, "The job was stopped from outside of Tandem."
    return FailureReason.NODE_LOST, f"The job ended without reporting an outcome: {message}."


def _signal_of(exit_code: int | None) -> int | None:
    """The signal that ended a process: from -9, or from a shell's 137."""
    if exit_code is None:
        return None
    if exit_code < 0:
        return -exit_code
    return exit_code - 128 if 128 < exit_code < 128 + 65 else None
