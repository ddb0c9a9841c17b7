"""Which attempt reports, and the sinks that its records and log go to."""

from collections.abc import Callable
from pathlib import Path

from configs.addresses import remove_credentials
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


def find_mlflow_url(url: str, *, run_dir: Path) -> str:
    """MLflow's address; with user name and password if the run's folder has them for `url`.

    A file of an earlier attempt may be for another server, which must not get the password.
    """
    try:
        full_url = (run_dir / RunFile.MLFLOW_URL).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return url
    return full_url if remove_credentials(full_url) == url else url


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
