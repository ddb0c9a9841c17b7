"""Proxies, certificates and credentials of the shell, for every client of every process."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from configs.http_access import AccessRefused, client_options, complete_environment
from service.adapters.mlflow import MlflowTracker
from service.adapters.ray_jobs import RayJobs
from service.cli.errors import explain_error
from service.client import TandemClient
from service.domain.errors.systems import ClusterUnreachable
from service.stack.components import build_components
from service.stack.health import check_health
from service.stack.trainer import run_worker_doctor
from tests.support.http_servers import AnsweringServer, run_answering_server
from tests.support.stack.configs import make_stack_config
from workers.telemetry.mlflow_connection import request_experiments
from workers.telemetry.service_client import ServiceClient
from workers.telemetry.shipper import SinkUnavailable

DEAD_PROXY = "http://127.0.0.1:9"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
WORKER = Path(sys.executable).parent / "tandem-worker"


def ask_tracker(url: str) -> None:
    assert MlflowTracker(url).find_or_create_experiment("default").id == "7"


def ask_ray(url: str) -> None:
    with pytest.raises(ClusterUnreachable, match="is not Ray"):
        RayJobs(url, token_file=None).jobs()


def ask_service(url: str) -> None:
    with TandemClient(url) as client:
        assert client.runs().items == []


def ask_service_as_worker(url: str) -> None:
    assert ServiceClient(url).get("/healthz").is_success


def ask_health(url: str) -> None:
    config = make_stack_config(Path("/none"), mlflow_url=url)
    assert check_health(build_components(config)[1], config).is_up


CLIENTS: list[Callable[[str], None]] = [
    ask_tracker,
    ask_ray,
    ask_service,
    ask_service_as_worker,
    ask_health,
    request_experiments,
]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The code under test changes the environment, which monkeypatch restores."""
    variables = (*PROXIES, "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    of_tls = ("SSL_CERT_DIR", "CURL_CA_BUNDLE", "MLFLOW_DISABLE_TELEMETRY")
    of_client = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    for name in (*variables, *of_tls, *of_client, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with run_answering_server() as answering:
        yield answering


@pytest.mark.parametrize("proxy", [DEAD_PROXY, "127.0.0.1:9", "socks5://127.0.0.1:9"])
@pytest.mark.parametrize("ask", CLIENTS)
def test_a_dead_proxy_keeps_nobody_from_this_machine(
    monkeypatch: pytest.MonkeyPatch, server: AnsweringServer, ask: Callable[[str], None], proxy: str
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", "[::1],10.0.0.0/8,*.example.com")

    ask(server.url)

    assert len(server.requested) == 1


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("ask", CLIENTS)
def test_another_machine_is_asked_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, server: AnsweringServer, ask: Callable[[str], None], name: str
) -> None:
    monkeypatch.setenv(name, server.url)

    ask("http://mlflow.example.org")

    assert server.requested[0].startswith("http://mlflow.example.org")


@pytest.mark.parametrize(
    ("url", "no_proxy", "within_cluster", "is_direct"),
    [
        ("http://mlflow.example.org", "", False, False),
        ("http://mlflow.example.org:5000", "example.org", False, True),
        ("http://mlflow.example.org", ".example.org, other", False, True),
        ("http://mlflow.example.org", "*", False, True),
        ("http://192.0.2.7:5000", "192.0.2.0/24", False, True),
        ("http://[2001:db8::7]:5000", "2001:db8::/32", False, True),
        ("http://[2001:db8::7]:5000", "[2001:db8::7]", False, True),
        ("http://10.1.2.3:8700", "", False, False),
        ("http://10.1.2.3:8700", "", True, True),
        ("http://mlflow:5000", "", False, True),
        ("http://127.0.0.53:5000", "", False, True),
        ("http://[::1]:5000", "", False, True),
        ("http://tandem.localhost", "", False, True),
    ],
)
def test_who_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str, within_cluster: bool, is_direct: bool
) -> None:
    monkeypatch.setenv("HTTP_PROXY", DEAD_PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)

    proxy = client_options(url, within_cluster=within_cluster)["proxy"]

    assert proxy == (None if is_direct else DEAD_PROXY)


def test_a_proxy_of_another_kind_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@proxy.example:1080")

    with pytest.raises(AccessRefused, match=r"socks5 is not supported.*NO_PROXY") as refusal:
        MlflowTracker("https://mlflow.example.org")

    message = explain_error(refusal.value)
    assert message is not None
    assert "secret" not in message.summary


def test_libraries_get_what_they_need_for_the_same(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    env = {"no_proxy": "a.example,::1", "SSL_CERT_FILE": str(bundle)}

    complete_environment(env, "http://127.0.0.9:5500", "https://mlflow.example.org", "./mlruns")

    assert env["NO_PROXY"] == env["no_proxy"] == "a.example,::1,localhost,127.0.0.1,127.0.0.9"
    assert env["REQUESTS_CA_BUNDLE"] == env["SSL_CERT_FILE"] == str(bundle)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("ask", CLIENTS)
def test_certificates_of_the_environment_are_trusted_by_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: Callable[[str], None], name: str
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "server.pem"))

    with run_answering_server(certificate_in=tmp_path) as server:
        ask(server.url)

    assert len(server.requested) == 1


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    "variables",
    [
        {"MLFLOW_TRACKING_INSECURE_TLS": "true"},
        {"MLFLOW_TRACKING_SERVER_CERT_PATH": "server.pem"},
    ],
)
@pytest.mark.parametrize("ask", [ask_tracker, ask_health, request_experiments])
def test_mlflows_variables_decide_whom_to_trust(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ask: Callable[[str], None],
    variables: dict[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with run_answering_server(certificate_in=tmp_path) as server:
        ask(server.url)

    assert len(server.requested) == 1


@pytest.mark.parametrize(
    ("variables", "file", "expected"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "", "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p%"}, "", "Basic dTpwJQ=="),
        (
            {"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_TOKEN": "t"},
            "[mlflow]\nmlflow_tracking_username = x\nmlflow_tracking_password = p\n",
            "Basic dTpw",
        ),
        ({}, "[mlflow]\nmlflow_tracking_username = x\n", ""),
        ({"MLFLOW_TRACKING_USERNAME": "u"}, "", ""),
    ],
)
@pytest.mark.parametrize("ask", [ask_tracker, ask_health, request_experiments])
def test_the_service_has_the_credentials_of_a_worker(  # noqa: PLR0913 - each differs
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    server: AnsweringServer,
    ask: Callable[[str], None],
    variables: dict[str, str],
    file: str,
    expected: str,
) -> None:
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(file, encoding="utf-8")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    ask(server.url)

    assert server.authorizations == [expected]


@pytest.mark.parametrize(
    "variables",
    [
        {"MLFLOW_TRACKING_INSECURE_TLS": "1", "MLFLOW_TRACKING_SERVER_CERT_PATH": "x"},
        {"MLFLOW_TRACKING_SERVER_CERT_PATH": "none.pem"},
        {"MLFLOW_TRACKING_CLIENT_CERT_PATH": "none.pem"},
        {"REQUESTS_CA_BUNDLE": "none.pem"},
    ],
)
def test_unusable_certificates_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(AccessRefused, match=list(variables)[-1]):
        MlflowTracker("https://mlflow.example.org")
    config = make_stack_config(tmp_path, mlflow_url="https://mlflow.example.org")
    assert list(variables)[-1] in check_health(build_components(config)[1], config).detail


def test_the_doctor_sends_what_a_run_would_send(server: AnsweringServer) -> None:
    options = (
        "--reuse-proof",
        "--service-url",
        server.url,
        "--mlflow-url",
        "http://mlflow.example.org",
    )
    env = {"PATH": os.environ["PATH"], "HTTP_PROXY": DEAD_PROXY}

    results = {
        result.name: result for result in run_worker_doctor(WORKER, options=options, env=env)
    }

    assert results["service for runs"].ok
    assert server.requested == ["/healthz"]
    assert not results["MLflow for runs"].ok
    assert "ProxyError" in results["MLflow for runs"].detail
    assert "NO_PROXY" in results["MLflow for runs"].advice


def test_a_worker_says_why_mlflow_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", DEAD_PROXY)

    with pytest.raises(SinkUnavailable, match="ProxyError"):
        request_experiments("http://mlflow.example.org")
