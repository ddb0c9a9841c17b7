"""Who reports, and the places in the service that hear it."""

from collections.abc import Callable
from pathlib import Path

from configs.protocol.names import DEFAULT_PROJECT, RunFile
from configs.protocol.records import Behind
from configs.spec.base import Contract
from workers.telemetry.log_sink import LogSink
from workers.telemetry.service_sink import ServiceSink


class Identity(Contract):
    """Who reports, and to whom; without addresses records stay in the spool."""

    run_id: str
    attempt: int = 1
    report_url: str | None = None
    mlflow_url: str | None = None
    preset: str | None = None
    name: str | None = None
    project: str = DEFAULT_PROJECT


def service_sink(
    identity: Identity, *, run_dir: Path, behind: Callable[[], Behind]
) -> ServiceSink | None:
    """Where records go; none without an address."""
    if identity.report_url is None:
        return None
    return ServiceSink(
        identity.report_url,
        run_id=identity.run_id,
        attempt=identity.attempt,
        token_file=run_dir / RunFile.TOKEN,
        behind=behind,
    )


def log_sink(identity: Identity, *, run_dir: Path) -> LogSink | None:
    """Where the attempt's log goes; none without an address."""
    if identity.report_url is None:
        return None
    return LogSink(
        identity.report_url,
        run_id=identity.run_id,
        attempt=identity.attempt,
        token_file=run_dir / RunFile.TOKEN,
    )
