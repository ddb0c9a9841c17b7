"""Checks of `tandem-worker doctor`: whether a run's records arrive, sent as a run sends them."""

from collections.abc import Callable

from workers.machine.finding import MachineFinding
from workers.telemetry.mlflow_connection import request_experiments
from workers.telemetry.service_client import ServiceClient

_ADVICE = (
    "Proxies (HTTPS_PROXY, NO_PROXY), certificates (SSL_CERT_FILE) and MLFLOW_TRACKING_* are those "
    "of the shell in which `tandem up` runs; docs/operate.md has a table."
)


def check_connections(*, service_url: str | None, mlflow_url: str | None) -> list[MachineFinding]:
    """Send a request to each address that is given."""
    checks: list[tuple[str, str | None, Callable[[str], None]]] = [
        ("service for runs", service_url, _request_service),
        ("MLflow for runs", mlflow_url, request_experiments),
    ]
    return [_check(name, url, request) for name, url, request in checks if url is not None]


def _check(name: str, url: str, request: Callable[[str], None]) -> MachineFinding:
    try:
        request(url)
    except Exception as error:
        detail = f"{url} cannot be reached: {error}"
        return MachineFinding(name=name, ok=False, detail=detail, advice=_ADVICE)
    return MachineFinding(name=name, ok=True, detail=f"{url} answers")


def _request_service(url: str) -> None:
    client = ServiceClient(url)
    try:
        client.get("/healthz")
    finally:
        client.close()
