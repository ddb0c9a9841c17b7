"""One attempt of a job: whatever it does, every end is reported and none is raised."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configs.protocol.names import ExitCode, attempt_log
from configs.spec.jobs import JobSpec
from workers.attempt.failures import cause_of, exit_code_of, is_sticky
from workers.attempt.files import Slips
from workers.attempt.stop import Termination, leave_if_unwanted
from workers.attempt.watchdog import watched
from workers.errors import StopRequested, Superseded
from workers.process.gpu_context import CudaContext, GpuContext
from workers.process.oom import obituary, oom_kills_since_start
from workers.telemetry.heartbeat import STALL_AFTER_S
from workers.telemetry.identity import Identity
from workers.telemetry.protocol import Voice
from workers.telemetry.reporter import PATIENCE_S, Reporter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    """What a job's work is given: where it writes, whom it tells."""

    run_dir: Path
    reporter: Reporter
    termination: Termination

    def leave_if_unwanted(self) -> None:
        """Raises what ends an attempt that is not wanted any more; else it goes on."""
        self.reporter.pulse.beat()
        leave_if_unwanted(self.reporter, termination=self.termination)

    def write(self, path: str, text: str) -> None:
        """Write a file of the run's folder and have it logged."""
        file = self.run_dir / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self.reporter.artifact(path)

    def progress(self, *, done: int, total: int, is_last: bool = False) -> None:
        """Say how far the work is."""
        self.reporter.progress(
            phase="finishing" if is_last else "evaluating",
            epoch=0,
            epochs=0,
            step=done,
            steps=total,
            eta_s=None,
        )


def attempt(
    spec: JobSpec,
    work: Callable[[Desk], float | None],
    *,
    identity: Identity,
    run_dir: Path,
    stall_after_s: float = STALL_AFTER_S,
) -> ExitCode:
    """Do `work`, which returns the model's mAP if it knows it, and say how it ended."""
    termination = Termination()
    termination.install()
    log_file = run_dir / attempt_log(identity.attempt)
    with Reporter.open(run_dir, identity=identity, spec=spec) as reporter:
        say_how_the_last_ended(reporter, run_dir=run_dir, attempt=identity.attempt)
        try:
            with watched({log_file: reporter}, stall_after_s=stall_after_s):
                best_map = work(Desk(run_dir, reporter, termination))
        except Exception as error:
            return end_by(error, voice=reporter, run_dir=run_dir, attempt=identity.attempt)
        reporter.outcome("succeeded", best_map=best_map)
        return ExitCode.SUCCEEDED


def end_by(
    error: Exception,
    *,
    voice: Voice,
    run_dir: Path,
    attempt: int,
    gpu: GpuContext | None = None,
) -> ExitCode:
    """Report that the only attempt of this process ended by `error`; returns the exit code.

    A process that cannot use its GPU any more ends here. `error` must still be referred to: the
    tensors in its traceback cannot be freed without CUDA. `gpu`: none is this process's own.
    """
    gpu = gpu or CudaContext()
    code = told_end(error, voice=voice, run_dir=run_dir, attempt=attempt, gpu=gpu)
    if is_sticky(error):
        voice.drain(patience_s=PATIENCE_S)
        gpu.abandon(code)
    return code


def told_end(
    error: Exception, *, voice: Voice, run_dir: Path, attempt: int, gpu: GpuContext
) -> ExitCode:
    """Say that an attempt ended by `error`; the exit code that says it too.

    A superseded attempt says nothing: the run has another voice.
    """
    if isinstance(error, Superseded):
        log.warning("%s", error)
        return ExitCode.FENCED
    if isinstance(error, StopRequested):
        voice.outcome("cancelled" if error.ends_the_run else "stopped", message=str(error))
        return ExitCode.CANCELLED if error.ends_the_run else ExitCode.STOPPED
    cause = cause_of(
        error,
        oom_kills=oom_kills_since_start(run_dir, attempt=attempt),
        foreign_bytes=gpu.foreign_bytes,
    )
    log.error("The attempt failed: %s", cause.reason, exc_info=error)
    voice.outcome("failed", reason=cause.reason, message=cause.message)
    return exit_code_of(cause.reason)


def say_how_the_last_ended(voice: Voice, *, run_dir: Path, attempt: int) -> None:
    """A line about the attempt before, if it could not speak and the kernel can."""
    last = attempt - 1
    if last < 1 or Slips(run_dir, attempt=last).last_word() is not None:
        return
    if (words := obituary(run_dir, attempt=last)) is not None:
        voice.note(words)
