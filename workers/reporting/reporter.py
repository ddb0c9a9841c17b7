"""What the trainer says: into the spool at once, to the service and MLflow in time."""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from configs.spec import (
    Artifact,
    Contract,
    DatasetManifest,
    FailureReason,
    Metrics,
    Outcome,
    Progress,
    Record,
    RunFile,
    RunSpec,
    Started,
    Tracked,
)
from workers.provenance import Whereabouts
from workers.reporting.mlflow_sink import MlflowSink, TrackedRun
from workers.reporting.service_sink import ServiceSink
from workers.reporting.shipper import Shipper
from workers.reporting.spool import Spool

PATIENCE_S = 60.0
_HEARTBEAT_S = 2.0
_IDENTITY_FILE = "reporting.json"

log = logging.getLogger(__name__)


class Identity(Contract):
    """Who reports, and to whom; without addresses records stay in the spool."""

    run_id: str
    attempt: int = 1
    report_url: str | None = None
    mlflow_url: str | None = None
    preset: str | None = None
    name: str | None = None


class Reporter:
    """Writes records and ships them while the trainer goes on; a context manager."""

    def __init__(
        self, run_dir: Path, *, identity: Identity, spec: RunSpec, clock: Callable[[], datetime]
    ) -> None:
        self._run_dir = run_dir
        self._attempt = identity.attempt
        self._clock = clock
        self._spool = Spool(run_dir / RunFile.SPOOL)
        self._service = _service_sink(identity)
        self._mlflow = self._mlflow_sink(identity, spec=spec)
        self._shippers = self._make_shippers()
        self._is_closed = False

    @classmethod
    def open(
        cls,
        run_dir: Path,
        *,
        identity: Identity,
        spec: RunSpec,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Self:
        """Begin to report for the run in `run_dir`."""
        (run_dir / _IDENTITY_FILE).write_text(identity.model_dump_json(indent=2), encoding="utf-8")
        return cls(run_dir, identity=identity, spec=spec, clock=clock)

    def __enter__(self) -> Self:
        for shipper in self._shippers:
            shipper.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(patience_s=PATIENCE_S)

    @property
    def stop_requested(self) -> bool:
        """The service wants the run to end."""
        return self._service is not None and self._service.stop_requested

    @property
    def is_superseded(self) -> bool:
        """A newer attempt has taken over."""
        return any(shipper.is_refused for shipper in self._shippers)

    def started(
        self,
        where: Whereabouts,
        *,
        resumed_from_epoch: int,
        teacher_sha256: str | None,
        dataset: DatasetManifest,
    ) -> None:
        """Say where this attempt runs, on what, and from which epoch."""
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
            )
        )

    def metrics(self, *, step: int, values: Mapping[str, float]) -> None:
        """Say the values of one step, unless an earlier attempt said them."""
        unsaid = self._spool.unsaid(step, values)
        if unsaid:
            self._say(Metrics(at=self._clock(), attempt=self._attempt, step=step, values=unsaid))

    def progress(
        self,
        *,
        phase: Literal["preparing", "training", "evaluating", "finishing"],
        epoch: int,
        epochs: int,
        step: int,
        steps: int,
        eta_s: float | None,
    ) -> None:
        """Say how far training is."""
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

    def artifact(self, path: str) -> None:
        """Have a file of the run's folder logged to MLflow; `path` is relative to the folder."""
        self._say(Artifact(at=self._clock(), attempt=self._attempt, path=path))

    def outcome(
        self,
        result: Literal["succeeded", "failed", "cancelled"],
        *,
        reason: FailureReason | None = None,
        message: str = "",
        best_map: float | None = None,
        best_epoch: int | None = None,
    ) -> None:
        """Say how the attempt ended."""
        self._say(
            Outcome(
                at=self._clock(),
                attempt=self._attempt,
                result=result,
                reason=reason,
                message=message,
                best_map=best_map,
                best_epoch=best_epoch,
            )
        )

    def close(self, *, patience_s: float) -> bool:
        """Ship what is left for at most `patience_s`; whether everything arrived."""
        if self._is_closed:
            return True
        self._is_closed = True
        deadline_s = time.monotonic() + patience_s
        # MLflow first: its run's id is itself a record for the service.
        arrived = [shipper.drain(deadline_s) for shipper in reversed(self._shippers)]
        arrived += [shipper.drain(deadline_s) for shipper in self._shippers]
        for shipper in self._shippers:
            shipper.stop()
        self._spool.close()
        if not all(shipper.left <= 0 or shipper.is_refused for shipper in self._shippers):
            log.warning(
                "Records are left; bring them with: tandem-worker ship --run-dir %s", self._run_dir
            )
        return all(arrived)

    def _say(self, record: Record) -> None:
        self._spool.append(record)

    def _make_shippers(self) -> list[Shipper]:
        places = [("service", self._service), ("mlflow", self._mlflow)]
        return [
            Shipper(
                self._spool,
                sink,
                position_file=self._run_dir / f"spool.{label}.position",
                heartbeat_s=_HEARTBEAT_S,
            )
            for label, sink in places
            if sink is not None
        ]

    def _mlflow_sink(self, identity: Identity, *, spec: RunSpec) -> MlflowSink | None:
        if identity.mlflow_url is None:
            return None
        tracked = TrackedRun(
            run_id=identity.run_id,
            name=identity.name or identity.preset or identity.run_id,
            preset=identity.preset,
            spec=spec,
            run_dir=self._run_dir,
        )
        return MlflowSink(
            identity.mlflow_url,
            tracked,
            closes_run=identity.report_url is None,
            on_found=self._note_tracked,
        )

    def _note_tracked(self, mlflow_run_id: str) -> None:
        if not self._spool.is_tracked:
            self._say(Tracked(at=self._clock(), attempt=self._attempt, mlflow_run_id=mlflow_run_id))


def ship(run_dir: Path, *, patience_s: float) -> bool:
    """Bring what a run's processes left behind to the service and MLflow; whether all arrived."""
    identity = Identity.model_validate_json((run_dir / _IDENTITY_FILE).read_bytes())
    spec = RunSpec.model_validate_json((run_dir / RunFile.SPEC).read_bytes())
    reporter = Reporter(run_dir, identity=identity, spec=spec, clock=lambda: datetime.now(UTC))
    for shipper in reporter._shippers:
        shipper.start()
    return reporter.close(patience_s=patience_s)


def _service_sink(identity: Identity) -> ServiceSink | None:
    if identity.report_url is None:
        return None
    return ServiceSink(identity.report_url, run_id=identity.run_id, attempt=identity.attempt)
