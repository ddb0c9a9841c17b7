"""Which attempt reports, and the sinks that its records and log go to."""

from collections.abc import Callable
from pathlib import Path

from configs.protocol.names import DEFAULT_PROJECT, RunFile
from configs.protocol.records import PendingRecords
from configs.spec.base import Contract
from workers.telemetry.log_sink import LogSink
from workers.telemetry.service_sink import ServiceSink


class AttemptIdentity(Contract):
    """Which attempt reports, and where to; without URLs, records stay in the spool."""

    run_id: str
    attempt: int = 1
    service_url: str | None = None
    mlflow_url: str | None = None
    preset: str | None = None
    name: str | None = None
    project: str = DEFAULT_PROJECT


def build_service_sink(
    identity: AttemptIdentity, *, run_dir: Path, pending_records: Callable[[], PendingRecords]
) -> ServiceSink | None:
    """None if the identity has no service URL."""
    if identity.service_url is None:
        return None
    return ServiceSink(
        identity.service_url,
        run_id=identity.run_id,
        attempt=identity.attempt,
        token_file=run_dir / RunFile.TOKEN,
        pending_records=pending_records,
    )


def build_log_sink(identity: AttemptIdentity, *, run_dir: Path) -> LogSink | None:
    """None without a service URL, as `build_service_sink`."""
    if identity.service_url is None:
        return None
    return LogSink(
        identity.service_url,
        run_id=identity.run_id,
        attempt=identity.attempt,
        token_file=run_dir / RunFile.TOKEN,
    )
