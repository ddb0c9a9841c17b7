"""Files in a run's folder through which the processes of an attempt and their driver communicate.

Every node sees the run's folder.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile, attempt_log_path
from configs.protocol.records import Outcome, Result
from configs.spec.base import Contract
from configs.spec.run import RunSpec
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.protocol import NullReporter


class ProcessSpec(Contract):
    """What the driver passes to each training process."""

    spec: RunSpec
    identity: AttemptIdentity
    run_dir: str
    spool_offset: int
    """Size of the run's spool, in bytes, when the driver started."""

    stall_timeout_s: float
    """For the watchdog of each process."""


class ProcessFailure(Contract):
    """Why a training process failed."""

    reason: FailureReason
    message: str
    node_id: str | None = None
    """Ray's id of the node that caused the failure; None if no single node is known to have."""


class AttemptFiles:
    """Paths and contents of an attempt's files: logs, nodes, the first failure, a stop request."""

    def __init__(self, run_dir: Path, *, attempt: int, spool_offset: int = 0) -> None:
        self._run_dir = run_dir
        self._attempt = attempt
        self._spool_offset = spool_offset
        self._failure_file = run_dir / RunFile.LOGS / f"attempt-{attempt}.failure.json"
        self._stop_file = run_dir / RunFile.LOGS / f"attempt-{attempt}.leave"

    @classmethod
    def for_process(cls, process_spec: ProcessSpec) -> Self:
        """The files of the attempt that a process belongs to."""
        return cls(
            Path(process_spec.run_dir),
            attempt=process_spec.identity.attempt,
            spool_offset=process_spec.spool_offset,
        )

    def clear(self) -> None:
        """Remove what an earlier start of the same attempt has written."""
        self._failure_file.parent.mkdir(parents=True, exist_ok=True)
        for file in (self._failure_file, self._stop_file, *self._node_files()):
            file.unlink(missing_ok=True)

    def log_file(self, rank: int) -> Path:
        """The attempt's log for rank 0, a file beside it for the other ranks."""
        if rank == 0:
            return self._run_dir / attempt_log_path(self._attempt)
        return self._run_dir / RunFile.LOGS / f"attempt-{self._attempt}.rank-{rank}.log"

    def write_node_id(self, rank: int, node_id: str) -> None:
        """Record the node of a process, for the case that it is killed."""
        file = self._run_dir / RunFile.LOGS / f"attempt-{self._attempt}.rank-{rank}.node"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(node_id, encoding="ascii")

    def read_node_ids(self) -> dict[int, str]:
        """Node ids by rank, of the processes that have recorded one."""
        return {
            int(file.stem.rpartition("-")[2]): node_id
            for file in self._node_files()
            if (node_id := file.read_text(encoding="ascii"))
        }

    def _node_files(self) -> list[Path]:
        return sorted((self._run_dir / RunFile.LOGS).glob(f"attempt-{self._attempt}.rank-*.node"))

    def request_stop(self) -> None:
        """Ask the processes to stop after their current step."""
        self._stop_file.touch()

    def is_stop_requested(self) -> bool:
        return self._stop_file.exists()

    def write_failure(self, failure: ProcessFailure) -> None:
        """Record the first failure only: later ones are its consequences."""
        self._failure_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._failure_file.open("x", encoding="utf-8") as file:
                file.write(failure.model_dump_json())
        except FileExistsError:
            return

    def read_failure(self) -> ProcessFailure | None:
        """None if no process has recorded a failure, or if one was killed while writing it."""
        try:
            return ProcessFailure.model_validate_json(self._failure_file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def read_outcome(self) -> Outcome | None:
        """The outcome of this attempt; None if the main process has reported none."""
        for line in reversed(_read_spool(self._run_dir)[self._spool_offset :].splitlines()):
            outcome = _parse_outcome(line)
            if outcome is not None and outcome.attempt == self._attempt:
                return outcome
        return None


def complete_spool_bytes(run_dir: Path) -> int:
    """Size of a run's spool without an incomplete last line."""
    return _read_spool(run_dir).rfind(b"\n") + 1


class FailureReporter(NullReporter):
    """The reporter of processes with rank > 0: records failures for the driver.

    The main process usually fails for the same reason and reports it, but a file may be missing on
    one node only.
    """

    def __init__(self, files: AttemptFiles) -> None:
        super().__init__()
        self._files = files

    def report_outcome(
        self,
        result: Result,
        *,
        reason: FailureReason | None = None,
        message: str = "",
        **_: Any,
    ) -> None:
        if result == "failed" and reason is not None:
            self._files.write_failure(ProcessFailure(reason=reason, message=message))


def _read_spool(run_dir: Path) -> bytes:
    try:
        return (run_dir / RunFile.SPOOL).read_bytes()
    except FileNotFoundError:
        return b""


def _parse_outcome(line: bytes) -> Outcome | None:
    """None for any other kind of record."""
    try:
        return Outcome.model_validate_json(line, extra="ignore")
    except ValidationError:
        return None
