"""Runs a job and reports how it ended; no exception leaves it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configs.protocol.names import ExitCode, attempt_log_path
from configs.spec.jobs import JobSpec
from workers.attempt.failures import diagnose_failure, exit_code_for, is_sticky
from workers.attempt.files import AttemptFiles
from workers.attempt.stop import Termination, raise_if_stopped
from workers.attempt.watchdog import watch_for_stalls
from workers.errors import StopRequested, Superseded, WorkerError
from workers.process.gpu_context import CudaContext, GpuContext
from workers.process.oom import oom_kill_message, oom_kills_since_start
from workers.telemetry.heartbeat import DEFAULT_STALL_TIMEOUT_S
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.protocol import Reporter
from workers.telemetry.reporter import DRAIN_TIMEOUT_S, SpoolReporter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobContext:
    """What the function that does a job is given."""

    run_dir: Path
    reporter: SpoolReporter
    termination: Termination

    def raise_if_stopped(self) -> None:
        """Also counts as a heartbeat; raises as `workers.attempt.stop.raise_if_stopped`."""
        self.reporter.heartbeat.beat()
        raise_if_stopped(self.reporter, termination=self.termination)

    def write_artifact(self, path: str, text: str) -> None:
        """Write `path`, relative to the run's folder, and report it as an artifact."""
        file = self.run_dir / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self.reporter.report_artifact(path)

    def report_progress(self, *, done: int, total: int, is_last: bool = False) -> None:
        """Report `done` of `total` steps of a job that has no epochs."""
        self.reporter.report_progress(
            phase="finishing" if is_last else "evaluating",
            epoch=0,
            epochs=0,
            step=done,
            steps=total,
            eta_s=None,
        )


def run_job(
    spec: JobSpec,
    work: Callable[[JobContext], float | None],
    *,
    identity: AttemptIdentity,
    run_dir: Path,
    stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
) -> ExitCode:
    """Run `work`, which returns the model's mAP or None, and report the outcome."""
    termination = Termination()
    termination.install()
    log_file = run_dir / attempt_log_path(identity.attempt)
    with SpoolReporter.open(run_dir, identity=identity, spec=spec) as reporter:
        report_previous_oom_kill(reporter, run_dir=run_dir, attempt=identity.attempt)
        try:
            with watch_for_stalls({log_file: reporter}, stall_timeout_s=stall_timeout_s):
                best_map = work(JobContext(run_dir, reporter, termination))
        except Exception as error:
            return finish_with_error(
                error, reporter=reporter, run_dir=run_dir, attempt=identity.attempt
            )
        reporter.report_outcome("succeeded", best_map=best_map)
        return ExitCode.SUCCEEDED


def finish_with_error(
    error: Exception,
    *,
    reporter: Reporter,
    run_dir: Path,
    attempt: int,
    gpu: GpuContext | None = None,
) -> ExitCode:
    """Report that this process's only attempt ended with `error`; returns the exit code.

    Does not return if the process has lost its CUDA context. The caller must keep a reference to
    `error`, because the tensors in its traceback cannot be freed then. `gpu` defaults to the
    current device.
    """
    gpu = gpu or CudaContext()
    code = report_error(error, reporter=reporter, run_dir=run_dir, attempt=attempt, gpu=gpu)
    if is_sticky(error):
        reporter.drain(timeout_s=DRAIN_TIMEOUT_S)
        gpu.exit_process(code)
    return code


def report_error(
    error: Exception, *, reporter: Reporter, run_dir: Path, attempt: int, gpu: GpuContext
) -> ExitCode:
    """Report the outcome of an attempt that ended with `error`; returns the matching exit code.

    A superseded attempt reports nothing, because a newer one reports for the run.
    """
    if isinstance(error, Superseded):
        log.warning("%s", error)
        return ExitCode.SUPERSEDED
    if isinstance(error, StopRequested):
        reporter.report_outcome("cancelled" if error.ends_run else "stopped", message=str(error))
        return ExitCode.CANCELLED if error.ends_run else ExitCode.STOPPED
    cause = diagnose_failure(
        error,
        oom_kills=oom_kills_since_start(run_dir, attempt=attempt),
        foreign_bytes=gpu.foreign_bytes,
    )
    # Our own errors say in a sentence what is wrong; tracebacks of them and their causes hide it.
    is_explained = isinstance(error, WorkerError)
    log.error("The attempt failed: %s", cause.reason, exc_info=None if is_explained else error)
    reporter.report_outcome("failed", reason=cause.reason, message=cause.message)
    return exit_code_for(cause.reason)


def report_previous_oom_kill(reporter: Reporter, *, run_dir: Path, attempt: int) -> None:
    """Add a note if the previous attempt reported no outcome and the kernel had killed it."""
    previous = attempt - 1
    if previous < 1 or AttemptFiles(run_dir, attempt=previous).read_outcome() is not None:
        return
    if (message := oom_kill_message(run_dir, attempt=previous)) is not None:
        reporter.report_note(message)
