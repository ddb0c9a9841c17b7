"""Which attempt reports, and the sinks that its records and log go to."""

from collections.abc import Callable, Sequence
from pathlib import Path

from configs.addresses import remove_credentials
from configs.protocol.names import DEFAULT_PROJECT, RunFile, experiment_name
from configs.protocol.records import PendingRecords, Record
from configs.spec.base import Contract
from configs.spec.jobs import JobSpec
from workers.telemetry.deferred_mlflow_sink import DeferredMlflowSink
from workers.telemetry.log_sink import LogSink
from workers.telemetry.service_sink import ServiceSink
from workers.telemetry.shipper import Sink


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


def build_mlflow_sink(
    identity: AttemptIdentity,
    *,
    spec: JobSpec,
    run_dir: Path,
    is_live: bool,
    get_known_run_id: Callable[[], str | None],
    on_run_found: Callable[[str], None],
) -> DeferredMlflowSink | None:
    """None without the URL of MLflow; the other arguments are those of `MlflowSink`."""
    if identity.mlflow_url is None:
        return None
    url = find_mlflow_url(identity.mlflow_url, run_dir=run_dir)

    def build() -> Sink[Sequence[Record]]:
        from workers.telemetry.mlflow_sink import MlflowSink, TrackedRun  # noqa: PLC0415

        tracked = TrackedRun(
            run_id=identity.run_id,
            name=identity.name or identity.preset or identity.run_id,
            preset=identity.preset,
            experiment=experiment_name(identity.project),
            spec=spec,
            run_dir=run_dir,
        )
        return MlflowSink(
            url,
            tracked,
            sets_final_status=identity.service_url is None,
            is_live=is_live,
            get_known_run_id=get_known_run_id,
            on_run_found=on_run_found,
        )

    return DeferredMlflowSink(url, build)
