"""The reporter of a job: writes records to the spool; shippers deliver them in the background."""

import logging
import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from configs.atomic_files import write_atomically
from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.protocol.records import (
    Artifact,
    Destination,
    Metrics,
    Note,
    Outcome,
    PendingRecords,
    Progress,
    Record,
    Result,
    Started,
    StopKind,
    Tracked,
)
from configs.spec.dataset import DatasetManifest
from configs.spec.jobs import JobSpec
from workers.machine.environment import ProcessInfo
from workers.telemetry.fencing import AttemptFence
from workers.telemetry.heartbeat import Heartbeat
from workers.telemetry.identity import (
    AttemptIdentity,
    build_log_sink,
    build_mlflow_sink,
    build_service_sink,
)
from workers.telemetry.log_lines import format_map, format_step_line
from workers.telemetry.log_sink import build_log_shipper
from workers.telemetry.protocol import Phase
from workers.telemetry.run_folder import IDENTITY_FILE, read_identity, read_run_spec
from workers.telemetry.service_sink import HEARTBEAT_S
from workers.telemetry.shipper import Shipper, Sink, SinkRefused, SinkUnavailable, drain_all
from workers.telemetry.spool import Spool

DRAIN_TIMEOUT_S = 60.0
_UNSPOOLED_OUTCOME_TIMEOUT_S = 5.0
_MAX_MESSAGE_CHARS = 8000
_MAX_NOTE_CHARS = 2000
_SERVICE: Destination = "service"

log = logging.getLogger(__name__)


class NotARunFolder(Exception):
    """A folder from which no run has reported."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(
            f"{run_dir} has no {IDENTITY_FILE}: no run has reported from it. Pass the folder that "
            "was given to `tandem-worker train --run-dir`."
        )


class SpoolReporter:
    """Implements `Reporter`; as a context manager, it delivers what is pending when it exits."""

    def __init__(
        self,
        run_dir: Path,
        *,
        identity: AttemptIdentity,
        spec: JobSpec,
        clock: Callable[[], datetime],
        is_live: bool = True,
    ) -> None:
        """`is_live`: an attempt is running; otherwise only pending records are delivered."""
        self._run_dir = run_dir
        self._attempt = identity.attempt
        self._clock = clock
        self._spool = Spool(run_dir / RunFile.SPOOL)
        if is_live:
            self._spool.allocate_reserve()
            self._restore_position()
        self._service = build_service_sink(
            identity, run_dir=run_dir, pending_records=self._pending_records
        )
        self._mlflow = build_mlflow_sink(
            identity,
            spec=spec,
            run_dir=run_dir,
            is_live=is_live,
            get_known_run_id=lambda: self._spool.mlflow_run_id,
            on_run_found=self._report_mlflow_run,
        )
        self._shippers = self._build_shippers()
        self._log_sink = build_log_sink(identity, run_dir=run_dir)
        self._log_shipper = self._build_log_shipper()
        self._fence = AttemptFence(run_dir / IDENTITY_FILE, attempt=identity.attempt)
        self._is_closed = False
        self._progress: Progress | None = None
        self.heartbeat = Heartbeat()

    @classmethod
    def open(
        cls,
        run_dir: Path,
        *,
        identity: AttemptIdentity,
        spec: JobSpec,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Self:
        """Write the identity file, which supersedes earlier attempts, not newer ones."""
        file = run_dir / IDENTITY_FILE
        if not AttemptFence(file, attempt=identity.attempt).is_superseded(at_once=True):
            write_atomically(file, identity.model_dump_json(indent=2) + "\n")
        return cls(run_dir, identity=identity, spec=spec, clock=clock)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(timeout_s=DRAIN_TIMEOUT_S)

    @property
    def pending(self) -> dict[str, int]:
        """Records that are not delivered yet, by the name of the sink."""
        return {shipper.name: max(0, shipper.pending) for shipper in self._shippers.values()}

    @property
    def requested_stop(self) -> StopKind | None:
        return None if self._service is None else self._service.requested_stop

    @property
    def is_superseded(self) -> bool:
        return self._fence.is_superseded() or any(
            shipper.is_refused for shipper in self._shippers.values()
        )

    def check_superseded(self) -> bool:
        return self._fence.is_superseded(at_once=True) or self.is_superseded

    def start(self) -> None:
        for shipper in self._all_shippers:
            shipper.start()

    def report_start(
        self,
        process: ProcessInfo,
        *,
        resumed_from_epoch: int,
        teacher_sha256: str | None,
        dataset: DatasetManifest,
        model_sha256: str | None = None,
    ) -> None:
        """`model_sha256` identifies the model of a job that trains none, such as an evaluation."""
        log.info(
            "Attempt %d on %s (%s), dataset %s, from epoch %d.",
            *(self._attempt, process.host, process.device, dataset.name, resumed_from_epoch),
        )
        self._spool.append(
            Started(
                at=self._clock(),
                attempt=self._attempt,
                host=process.host,
                pid=process.pid,
                device=process.device,
                versions=process.versions,
                resumed_from_epoch=resumed_from_epoch,
                teacher_sha256=teacher_sha256,
                dataset_name=dataset.name,
                dataset_digest=dataset.digest,
                model_sha256=model_sha256,
            )
        )

    def report_metrics(self, *, step: int, values: Mapping[str, float]) -> None:
        """Values that are not finite, or that an earlier attempt has reported, are left out."""
        finite = {key: value for key, value in values.items() if math.isfinite(value)}
        if len(finite) < len(values):
            dropped = sorted(values.keys() - finite.keys())
            log.warning("Not finite at step %d, and not reported: %s.", step, ", ".join(dropped))
        record = Metrics(at=self._clock(), attempt=self._attempt, step=step, values=finite)
        is_new = self._spool.append_unreported(record)
        line = format_step_line(step, finite, progress=self._progress) if is_new else None
        if line is not None:
            log.info("%s", line)

    def report_progress(
        self,
        *,
        phase: Phase,
        epoch: int,
        epochs: int,
        step: int,
        steps: int,
        eta_s: float | None,
    ) -> None:
        self.heartbeat.beat(phase)
        if phase != "preparing":
            self._begin_mlflow()
        self._progress = Progress(
            at=self._clock(),
            attempt=self._attempt,
            phase=phase,
            epoch=epoch,
            epochs=epochs,
            step=step,
            steps=steps,
            eta_s=eta_s,
        )
        self._spool.append(self._progress)

    def report_artifact(self, path: str) -> None:
        self._spool.append(Artifact(at=self._clock(), attempt=self._attempt, path=path))

    def report_note(self, text: str) -> None:
        log.info("%s", text)
        self._spool.append(
            Note(at=self._clock(), attempt=self._attempt, text=text[:_MAX_NOTE_CHARS])
        )

    def report_outcome(
        self,
        result: Result,
        *,
        reason: FailureReason | None = None,
        message: str = "",
        best_map: float | None = None,
        best_epoch: int | None = None,
        node_id: str | None = None,
    ) -> None:
        """An outcome that cannot be written to the spool is sent to the service directly.

        `node_id`: Ray's id of the node of the process that failed, if it is known.
        """
        score = "" if best_map is None else f"Its best mAP is {format_map(best_map)}."
        details = " ".join(filter(None, (message.partition("\n")[0], score)))
        log.info("The attempt %s. %s", result, details)
        outcome = Outcome(
            at=self._clock(),
            attempt=self._attempt,
            result=result,
            reason=reason,
            message=message[:_MAX_MESSAGE_CHARS],
            best_map=best_map,
            best_epoch=best_epoch,
            node_id=node_id,
        )
        try:
            self._spool.append(outcome)
        except OSError:
            log.exception("The outcome (%s) could not be written to %s.", result, self._run_dir)
            self._deliver_unspooled(outcome)

    def drain(self, *, timeout_s: float) -> bool:
        """Deliver the records, then the log; the result is about the records.

        Shipping continues, because the watchdog calls this while the main loop hangs.
        """
        deadline_s = time.monotonic() + timeout_s
        self._begin_mlflow()
        for _ in range(2):  # draining MLflow may append a record: the id of its run
            is_drained = drain_all(list(self._shippers.values()), deadline_s)
        if self._log_shipper is not None:
            self._log_shipper.drain(deadline_s)
        return is_drained

    def close(self, *, timeout_s: float) -> bool:
        """Drain for at most `timeout_s`, then stop; returns whether all records were delivered."""
        if not self._is_closed:
            self._is_closed = True
            self.drain(timeout_s=timeout_s)
            self._stop_shippers()
            self._warn_of_pending()
        return not any(self.pending.values())

    def _stop_shippers(self) -> None:
        stopped = [shipper for shipper in self._all_shippers if shipper.stop()]
        if self._service is not None and self._shippers[_SERVICE] in stopped:
            self._service.close()
        if self._log_sink is not None and self._log_shipper in stopped:
            self._log_sink.close()
        try:
            self._spool.close()
        except OSError:
            log.exception("The spool in %s could not be synced to disk.", self._run_dir)

    def _warn_of_pending(self) -> None:
        shippers = self._shippers.values()
        unsent = [s for s in shippers if s.pending > 0 and not s.is_refused]
        if unsent:
            log.warning(
                "Undelivered records: %s. Deliver them with: tandem-worker flush --run-dir %s",
                ", ".join(f"{shipper.pending} for {shipper.name}" for shipper in unsent),
                shlex.quote(str(self._run_dir)),
            )

    def _deliver_unspooled(self, outcome: Outcome) -> None:
        """Send an outcome that is not in the spool, once all records before it are delivered."""
        service = self._shippers.get(_SERVICE)
        if self._service is None or service is None:
            return
        if not service.drain(time.monotonic() + _UNSPOOLED_OUTCOME_TIMEOUT_S):
            return
        position = len(self._spool)
        try:
            self._service.deliver(position, [outcome])
        except (SinkUnavailable, SinkRefused) as error:
            log.warning("The outcome did not reach the service: %s", error)
            return
        with suppress(OSError), self._position_file(_SERVICE).open("r+") as file:
            file.write(f"{position + 1}")  # in place, which needs no disk space

    def _restore_position(self) -> None:
        """Append a note in place of an outcome that was delivered unspooled, so positions agree."""
        with suppress(OSError, ValueError):
            delivered = int(self._position_file(_SERVICE).read_text(encoding="ascii"))
            if delivered == len(self._spool) + 1:
                text = "The disk was full at the end of an earlier attempt."
                self._spool.append(Note(at=self._clock(), attempt=self._attempt, text=text))

    def _position_file(self, destination: Destination) -> Path:
        return self._run_dir / f"spool.{destination}.position"

    def _pending_records(self) -> PendingRecords:
        return {
            destination: max(0, shipper.pending) for destination, shipper in self._shippers.items()
        }

    @property
    def _all_shippers(self) -> list[Shipper[Any]]:
        log_shipper = [self._log_shipper] if self._log_shipper else []
        return [*self._shippers.values(), *log_shipper]

    def _build_shippers(self) -> dict[Destination, Shipper[Sequence[Record]]]:
        sinks: dict[Destination, Sink[Sequence[Record]] | None] = {
            _SERVICE: self._service,
            "mlflow": self._mlflow,
        }
        return {
            destination: Shipper(
                self._spool,
                sink,
                position_file=self._position_file(destination),
                heartbeat_s=HEARTBEAT_S,
            )
            for destination, sink in sinks.items()
            if sink is not None
        }

    def _build_log_shipper(self) -> Shipper[bytes] | None:
        if self._log_sink is None:
            return None
        return build_log_shipper(self._log_sink, run_dir=self._run_dir, attempt=self._attempt)

    def _begin_mlflow(self) -> None:
        if self._mlflow is not None:
            self._mlflow.begin()

    def _report_mlflow_run(self, mlflow_run_id: str) -> None:
        if self._spool.mlflow_run_id != mlflow_run_id:
            now = self._clock()
            self._spool.append(Tracked(at=now, attempt=self._attempt, mlflow_run_id=mlflow_run_id))


def flush_run(run_dir: Path, *, timeout_s: float = DRAIN_TIMEOUT_S) -> bool:
    """Deliver what a run's processes left pending; returns whether all records were delivered.

    Raises `NotARunFolder` if no run has reported from `run_dir`, and `IncompatibleRunFolder` if it
    reported with another version of Tandem.
    """
    try:
        identity = read_identity(run_dir)
    except FileNotFoundError as error:
        raise NotARunFolder(run_dir) from error
    spec = read_run_spec(run_dir)
    reporter = SpoolReporter(run_dir, identity=identity, spec=spec, clock=_utc_now, is_live=False)
    reporter.start()
    return reporter.close(timeout_s=timeout_s)


def _utc_now() -> datetime:
    return datetime.now(UTC)
