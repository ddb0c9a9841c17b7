"""What runs need to reach MLflow, without importing mlflow, which takes a second of CPU time."""

import os

import httpx

from configs.http_access import complete_environment
from configs.mlflow_access import mlflow_client_options
from workers.errors import summarize_error
from workers.telemetry.shipper import SinkUnavailable

_TIMEOUT_S = 30.0
_SEARCH = "/api/2.0/mlflow/experiments/search"
_PLUGIN_VARIABLES = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4")
"""Variables with which mlflow's client lets a plugin log in."""


def configure_mlflow_client(url: str) -> None:
    """Bypass proxies for addresses of this machine, and turn off retries and usage statistics.

    Call it before mlflow is imported. The shipper retries. mlflow reads these variables at each
    request, and has no other setting for them (3.17.2, `utils/rest_utils.py:http_request`). Its
    usage statistics, which start at its import, draw from Python's global random state in a thread
    (`telemetry/client.py:_get_config`), which would change the training.
    """
    complete_environment(os.environ, url)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = f"{_TIMEOUT_S:.0f}"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


def request_experiments(url: str) -> None:
    """Send a request to MLflow; raises `SinkUnavailable` unless it answers as it should.

    Only a plugin, or an address that is not of a web server, needs mlflow's own client.
    """
    is_web = url.startswith(("http://", "https://"))
    if not is_web or any(os.environ.get(name) for name in _PLUGIN_VARIABLES):
        from workers.telemetry.mlflow_sink import search_experiments  # noqa: PLC0415

        search_experiments(url)
        return
    options = mlflow_client_options(url)
    try:
        with httpx.Client(timeout=_TIMEOUT_S, **options) as client:
            response = client.post(url.rstrip("/") + _SEARCH, json={"max_results": 1})
        response.raise_for_status()
        document = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise SinkUnavailable(_describe(error, proxy=options["proxy"])) from error
    if not isinstance(document, dict):
        raise SinkUnavailable(f"the server at {response.url} is not MLflow")


def _describe(error: Exception, *, proxy: str | None) -> str:
    """Names the proxy, without its password, if that is what cannot be reached."""
    if proxy is None or not isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return summarize_error(error)
    return f"ProxyError: {proxy.rpartition('@')[2]}: {error}"
