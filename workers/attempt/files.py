"""What the processes that train one run together, and the driver that starts them, tell each other.

All of it is files in the run's folder, which every node sees.
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
    """What every process of a group is given."""

    spec: RunSpec
    identity: AttemptIdentity
    run_dir: str
    spool_offset: int
    """Bytes of the run's spool that were there before."""

    stall_timeout_s: float
    """Each process watches itself."""


class ProcessFailure(Contract):
    """Why a process of a group could not go on."""

    reason: FailureReason
    message: str
    node_id: str | None = None
    """Ray's id of the node where it failed; none: no single node is known to be the cause."""


class AttemptFiles:
    """An attempt's small files: its processes' logs and nodes, its failure, the wish that it
    leaves."""

    def __init__(self, run_dir: Path, *, attempt: int, spool_offset: int = 0) -> None:
        self._run_dir = run_dir
        self._attempt = attempt
        self._spool_from = spool_offset
        self._failure = run_dir / RunFile.LOGS / f"attempt-{attempt}.failure.json"
        self._leave = run_dir / RunFile.LOGS / f"attempt-{attempt}.leave"

    @classmethod
    def for_process(cls, part: ProcessSpec) -> Self:
        """Those of the attempt that a part belongs to."""
        attempt = part.identity.attempt
        return cls(Path(part.run_dir), attempt=attempt, spool_offset=part.spool_offset)

    def clear(self) -> None:
        """Take away what an earlier start of the same attempt left."""
        self._failure.parent.mkdir(parents=True, exist_ok=True)
        for file in (self._failure, self._leave, *self._node_files()):
            file.unlink(missing_ok=True)

    def log_file(self, rank: int) -> Path:
        """The first process writes the attempt's log, every other one beside it."""
        if rank == 0:
            return self._run_dir / attempt_log_path(self._attempt)
        return self._run_dir / RunFile.LOGS / f"attempt-{self._attempt}.rank-{rank}.log"

    def write_node_id(self, rank: int, node_id: str) -> None:
        """Write down where a process runs: one that is killed cannot say it any more."""
        file = self._run_dir / RunFile.LOGS / f"attempt-{self._attempt}.rank-{rank}.node"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(node_id, encoding="ascii")

    def read_node_ids(self) -> dict[int, str]:
        """The nodes of those processes that came to say it, by rank."""
        return {
            int(file.stem.rpartition("-")[2]): node_id
            for file in self._node_files()
            if (node_id := file.read_text(encoding="ascii"))
        }

    def _node_files(self) -> list[Path]:
        return sorted((self._run_dir / RunFile.LOGS).glob(f"attempt-{self._attempt}.rank-*.node"))

    def request_stop(self) -> None:
        """Have the processes leave at their next step."""
        self._leave.touch()

    def is_stop_requested(self) -> bool:
        """Whether somebody asked."""
        return self._leave.exists()

    def write_failure(self, failure: ProcessFailure) -> None:
        """Write a failure down, unless another process was first: what follows it is no cause."""
        self._failure.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._failure.open("x", encoding="utf-8") as file:
                file.write(failure.model_dump_json())
        except FileExistsError:
            return

    def read_failure(self) -> ProcessFailure | None:
        """The first failure; none if nobody wrote one, or its writer died over it."""
        try:
            return ProcessFailure.model_validate_json(self._failure.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def read_outcome(self) -> Outcome | None:
        """The outcome of this attempt, if its first process came to say one."""
        for line in reversed(_spool(self._run_dir)[self._spool_from :].splitlines()):
            if (said := _outcome(line)) and said.attempt == self._attempt:
                return said
        return None


def complete_spool_bytes(run_dir: Path) -> int:
    """Bytes of a run's spool up to the end of its last whole line."""
    return _spool(run_dir).rfind(b"\n") + 1


class FailureReporter(NullReporter):
    """Implements `Voice` for a process that is not the first: it only keeps why it failed.

    The first one mostly fails of the same and says so. But a folder may lack on one node alone.
    """

    def __init__(self, slips: AttemptFiles) -> None:
        super().__init__()
        self._slips = slips

    def report_outcome(
        self,
        result: Result,
        *,
        reason: FailureReason | None = None,
        message: str = "",
        **_: Any,
    ) -> None:
        """Keep a failure for the driver, should the first process not come to speak."""
        if result == "failed" and reason is not None:
            self._slips.write_failure(ProcessFailure(reason=reason, message=message))


def _spool(run_dir: Path) -> bytes:
    try:
        return (run_dir / RunFile.SPOOL).read_bytes()
    except FileNotFoundError:
        return b""


def _outcome(line: bytes) -> Outcome | None:
    try:
        return Outcome.model_validate_json(line)
    except ValidationError:
        return None
