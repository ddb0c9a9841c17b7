"""What the trainer says: into the spool at once, to the service and MLflow in time."""

import json
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

from configs.catalog import parse_job
from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile, experiment_name
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
from workers.telemetry.identity import AttemptIdentity, build_log_sink, build_service_sink
from workers.telemetry.log_sink import build_log_shipper
from workers.telemetry.mlflow_sink import MlflowSink, TrackedRun
from workers.telemetry.protocol import Phase
from workers.telemetry.service_sink import ServiceSink
from workers.telemetry.shipper import Shipper, SinkRefused, SinkUnavailable, drain_all
from workers.telemetry.spool import Spool

DRAIN_TIMEOUT_S = 60.0
_HEARTBEAT_S = 2.0
_EMERGENCY_S = 5.0
_LONGEST_MESSAGE = 8000
_LONGEST_NOTE = 2000
_SERVICE: Destination = "service"
_IDENTITY_FILE = "reporting.json"

log = logging.getLogger(__name__)


class NotARunFolder(Exception):
    """No run has reported from a folder."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(
            f"{run_dir} has no {_IDENTITY_FILE}, so no run was trained there; give the folder that "
            "`tandem-worker train --run-dir` was given."
        )


class SpoolReporter:
    """Writes records and ships them while the trainer goes on; a context manager."""

    def __init__(
        self,
        run_dir: Path,
        *,
        identity: AttemptIdentity,
        spec: JobSpec,
        clock: Callable[[], datetime],
        is_live: bool = True,
    ) -> None:
        """`is_live`: an attempt reports, and not only what an earlier one left is brought."""
        self._run_dir = run_dir
        self._attempt = identity.attempt
        self._clock = clock
        self._spool = Spool(run_dir / RunFile.SPOOL)
        if is_live:
            self._spool.allocate_reserve()
            self._fill_up()
        self._service = build_service_sink(identity, run_dir=run_dir, pending_records=self._behind)
        self._mlflow = self._mlflow_sink(identity, spec=spec, is_live=is_live)
        self._shippers = self._make_shippers()
        self._log_sink = build_log_sink(identity, run_dir=run_dir)
        self._log_shipper = self._make_log_shipper()
        self._fence = AttemptFence(run_dir / _IDENTITY_FILE, attempt=identity.attempt)
        self._is_closed = False
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
        """Begin to report for the run in `run_dir`."""
        unfinished = run_dir / f"{_IDENTITY_FILE}.unfinished"
        unfinished.write_text(identity.model_dump_json(indent=2) + "\n", encoding="utf-8")
        unfinished.replace(run_dir / _IDENTITY_FILE)
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
        """Records that have not arrived, by the place's name."""
        return {shipper.name: max(0, shipper.pending) for shipper in self._shippers.values()}

    @property
    def requested_stop(self) -> StopKind | None:
        """Why the service wants this attempt to leave; none: it does not."""
        return None if self._service is None else self._service.requested_stop

    @property
    def is_superseded(self) -> bool:
        """A newer attempt has taken over."""
        return self._fence.is_superseded() or any(
            shipper.is_refused for shipper in self._shippers.values()
        )

    def start(self) -> None:
        """Begin to flush."""
        for shipper in self._all_shippers:
            shipper.start()

    def report_start(
        self,
        where: ProcessInfo,
        *,
        resumed_from_epoch: int,
        teacher_sha256: str | None,
        dataset: DatasetManifest,
        model_sha256: str | None = None,
    ) -> None:
        """Say where this attempt runs, on what, and from which epoch."""
        log.info(
            "Attempt %d on %s (%s), dataset %s, from epoch %d.",
            *(self._attempt, where.host, where.device, dataset.name, resumed_from_epoch),
        )
        self._say(
            Started(
                at=self._clock(),
                attempt=self._attempt,
                host=where.host,
                pid=where.pid,
                device=where.device,
                versions=where.versions,
                resumed_from_epoch=resumed_from_epoch,
                teacher_sha256=teacher_sha256,
                dataset_name=dataset.name,
                dataset_digest=dataset.digest,
                model_sha256=model_sha256,
            )
        )

    def report_metrics(self, *, step: int, values: Mapping[str, float]) -> None:
        """Say the values of one step, unless an earlier attempt said them."""
        finite = {key: value for key, value in values.items() if math.isfinite(value)}
        if len(finite) < len(values):
            strange = sorted(values.keys() - finite.keys())
            log.warning("Not a number at step %d, and not reported: %s.", step, ", ".join(strange))
        is_new = self._spool.append_unreported(
            Metrics(at=self._clock(), attempt=self._attempt, step=step, values=finite)
        )
        if is_new:
            log.info("Step %d: %s", step, _in_words(finite))

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
        """Say how far training is."""
        self.heartbeat.beat(phase)
        self._say(
            Progress(
                at=self._clock(),
                attempt=self._attempt,
                phase=phase,
                epoch=epoch,
                epochs=epochs,
                step=step,
                steps=steps,
                eta_s=eta_s,
            )
        )

    def report_artifact(self, path: str) -> None:
        """Have a file of the run's folder logged to MLflow; `path` is relative to the folder."""
        self._say(Artifact(at=self._clock(), attempt=self._attempt, path=path))

    def report_note(self, text: str) -> None:
        """Say something that people should find among the run's events."""
        log.info("%s", text)
        self._say(Note(at=self._clock(), attempt=self._attempt, text=text[:_LONGEST_NOTE]))

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
        """Say how the attempt ended; where it cannot be written, to the service alone.

        `node_id` names the node of a process of several that failed.
        """
        score = "" if best_map is None else f" Its best mAP is {best_map:.4f}."
        log.info("The attempt %s. %s%s", result, message.partition("\n")[0], score)
        said = Outcome(
            at=self._clock(),
            attempt=self._attempt,
            result=result,
            reason=reason,
            message=message[:_LONGEST_MESSAGE],
            best_map=best_map,
            best_epoch=best_epoch,
            node_id=node_id,
        )
        try:
            self._say(said)
        except OSError:
            log.exception("The outcome (%s) could not be written to %s.", result, self._run_dir)
            self._tell_at_once(said)

    def drain(self, *, timeout_s: float) -> bool:
        """Ship what there is, the log last, for at most `patience_s`; whether all records arrived.

        Shipping goes on: the watchdog calls this beside a trainer that hangs.
        """
        deadline_s = time.monotonic() + timeout_s
        for _ in range(2):  # the id of the MLflow run, said when it is found, is a record too
            arrived = drain_all(list(self._shippers.values()), deadline_s)
        if self._log_shipper is not None:
            self._log_shipper.drain(deadline_s)
        return arrived

    def close(self, *, timeout_s: float) -> bool:
        """Ship what is left for at most `patience_s`; whether everything arrived."""
        if not self._is_closed:
            self._is_closed = True
            self.drain(timeout_s=timeout_s)
            self._end_shipping()
            self._say_what_is_left()
        return not any(self.pending.values())

    def _end_shipping(self) -> None:
        have_ended = [shipper.stop() for shipper in self._all_shippers]
        for sink in (self._service, self._log_sink):
            if sink is not None and all(have_ended):
                sink.close()
        try:
            self._spool.close()
        except OSError:
            log.exception("The spool in %s could not be written through.", self._run_dir)

    def _say_what_is_left(self) -> None:
        shippers = self._shippers.values()
        left = [f"{s.pending} for {s.name}" for s in shippers if s.pending > 0 and not s.is_refused]
        if left:
            log.warning(
                "Records are left: %s. Bring them with: tandem-worker flush --run-dir %s",
                ", ".join(left),
                shlex.quote(str(self._run_dir)),
            )

    def _say(self, record: Record) -> None:
        self._spool.append(record)

    def _tell_at_once(self, said: Outcome) -> None:
        """Deliver an outcome that is not in the spool, if it is the very next record."""
        service = self._shippers.get(_SERVICE)
        if self._service is None or service is None:
            return
        if not service.drain(time.monotonic() + _EMERGENCY_S):
            return
        position = len(self._spool)
        try:
            self._service.deliver(position, [said])
        except (SinkUnavailable, SinkRefused) as error:
            log.warning("The outcome did not reach the service: %s", error)
            return
        with suppress(OSError), self._position_file(_SERVICE).open("r+") as file:
            file.write(f"{position + 1}")  # in place, which takes no room

    def _fill_up(self) -> None:
        """Put a record where one was delivered that found no room: positions stay the same."""
        with suppress(OSError, ValueError):
            delivered = int(self._position_file(_SERVICE).read_text(encoding="ascii"))
            if delivered == len(self._spool) + 1:
                text = "The disk was full at the end of an earlier attempt."
                self._say(Note(at=self._clock(), attempt=self._attempt, text=text))

    def _position_file(self, destination: Destination) -> Path:
        return self._run_dir / f"spool.{destination}.position"

    def _behind(self) -> PendingRecords:
        return {place: max(0, shipper.pending) for place, shipper in self._shippers.items()}

    @property
    def _all_shippers(self) -> list[Shipper[Any]]:
        log_shipper = [self._log_shipper] if self._log_shipper else []
        return [*self._shippers.values(), *log_shipper]

    def _make_shippers(self) -> dict[Destination, Shipper[Sequence[Record]]]:
        sinks: dict[Destination, ServiceSink | MlflowSink | None] = {
            _SERVICE: self._service,
            "mlflow": self._mlflow,
        }
        return {
            destination: Shipper(
                self._spool,
                sink,
                position_file=self._position_file(destination),
                heartbeat_s=_HEARTBEAT_S,
            )
            for destination, sink in sinks.items()
            if sink is not None
        }

    def _make_log_shipper(self) -> Shipper[bytes] | None:
        if self._log_sink is None:
            return None
        return build_log_shipper(self._log_sink, run_dir=self._run_dir, attempt=self._attempt)

    def _mlflow_sink(
        self, identity: AttemptIdentity, *, spec: JobSpec, is_live: bool
    ) -> MlflowSink | None:
        if identity.mlflow_url is None:
            return None
        tracked = TrackedRun(
            run_id=identity.run_id,
            name=identity.name or identity.preset or identity.run_id,
            preset=identity.preset,
            experiment=experiment_name(identity.project),
            spec=spec,
            run_dir=self._run_dir,
        )
        return MlflowSink(
            identity.mlflow_url,
            tracked,
            sets_final_status=identity.service_url is None,
            is_live=is_live,
            get_known_run_id=lambda: self._spool.mlflow_run_id,
            on_run_found=self._note_tracked,
        )

    def _note_tracked(self, mlflow_run_id: str) -> None:
        if self._spool.mlflow_run_id != mlflow_run_id:
            self._say(Tracked(at=self._clock(), attempt=self._attempt, mlflow_run_id=mlflow_run_id))


def flush_run(run_dir: Path, *, timeout_s: float = DRAIN_TIMEOUT_S) -> bool:
    """Bring what a run's processes left behind to the service and MLflow; whether all arrived."""
    try:
        identity = AttemptIdentity.model_validate_json((run_dir / _IDENTITY_FILE).read_bytes())
    except FileNotFoundError as error:
        raise NotARunFolder(run_dir) from error
    spec = parse_job(json.loads((run_dir / RunFile.SPEC).read_bytes()))
    reporter = SpoolReporter(run_dir, identity=identity, spec=spec, clock=_utc_now, is_live=False)
    reporter.start()
    return reporter.close(timeout_s=timeout_s)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _in_words(values: Mapping[str, float]) -> str:
    """Values as a line of the log; those of the loss budget are for `tandem budget`."""
    return ", ".join(
        f"{key} {value:.4g}" for key, value in values.items() if not key.startswith("loss_share/")
    )
