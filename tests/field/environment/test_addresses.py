"""Addresses as browsers take them: without a port, with IPv6, in capitals."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow.utils.file_utils import local_file_uri_to_path
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from configs.addresses import is_own_host, parse_web_address
from service.adapters.mlflow import MlflowTracker
from service.client import TandemClient
from service.context import build_context
from service.settings import Settings
from service.stack.components import ComponentName, build_components
from service.stack.health import check_health
from service.stack.ports import is_port_free
from service.store.database import Database
from tests.support.stack.configs import make_stack_config

ODD_NAMES = [
    "what?",
    "100%25",
    "a#b",
    "it's",
    'say "x"',
    "a\\b",
    "{{ _base_ }}",
    "$HOME",
    "a\nb",
    "ü 漢",
]


class IPv6Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class AnswerAnything(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"experiment": {"experiment_id": "7"}}'
        if self.path.startswith("/v1/"):
            body = b'{"items": [], "next_cursor": null}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def ipv6_port() -> Iterator[int]:
    """The port of a server on ::1 alone."""
    server = IPv6Server(("::1", 0), AnswerAnything)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://mlflow.example.org", "mlflow.example.org", 443),
        ("http://mlflow.example.org/", "mlflow.example.org", 80),
        ("HTTPS://MLflow.Example.org/tracking/", "mlflow.example.org", 443),
        ("http://[::1]:8265", "::1", 8265),
        ("http://[2001:db8::7]", "2001:db8::7", 80),
        ("http://müller.example:5000", "xn--mller-kva.example", 5000),
        ("http://user:p%40ss@mlflow.example.org", "mlflow.example.org", 80),
        ("http://tandem_mlflow:5000", "tandem_mlflow", 5000),
        (" http://127.0.0.1:5500 ", "127.0.0.1", 5500),
    ],
)
def test_an_address_is_read_as_browsers_read_it(url: str, host: str, port: int) -> None:
    address = parse_web_address(url)

    assert (address.host, address.port) == (host, port)
    assert Settings(mlflow_url=url, ray_url=url).mlflow_url == url.strip()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://user:p%40ss@mlflow.example.org/a@b", "https://mlflow.example.org/a@b"),
        ("http://[::1]:5500", "http://[::1]:5500"),
    ],
)
def test_pages_have_no_password(tmp_path: Path, url: str, expected: str) -> None:
    ctx, resources = build_context(Settings(home=tmp_path, mlflow_url=url))
    resources.close()

    assert ctx.mlflow_pages.url == expected


@pytest.mark.parametrize("field", ["mlflow_url", "ray_url", "mlflow_public_url", "public_url"])
@pytest.mark.parametrize("url", ["mlflow.example.org", "http://", "ftp://h:1", "http://h:99999"])
def test_what_is_no_address_names_its_setting(field: str, url: str) -> None:
    with pytest.raises(ValidationError, match=f"{field}\n.*it must be a web address"):
        Settings(auth="tokens", **{field: url})  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_every_component_of_a_stack_on_ipv6_has_its_address_in_brackets(
    tmp_path: Path, host: str
) -> None:
    settings = Settings(host=host, ray_url="http://[::1]:8265", mlflow_url="http://[::1]:5500")
    components = build_components(
        make_stack_config(
            tmp_path, host=settings.host, ray_url=settings.ray_url, mlflow_url=settings.mlflow_url
        )
    )

    urls = {component.name: component.url for component in components}

    assert settings.url == "http://[::1]:8700"
    assert urls[ComponentName.SERVICE] == "http://[::1]:18700"
    assert "--dashboard-host=0000:0000:0000:0000:0000:0000:0000:0001" in components[0].command
    assert all(component.is_local and component.address.host == "::1" for component in components)


def test_a_port_of_ipv6_is_free_or_taken(ipv6_port: int) -> None:
    assert not is_port_free(ipv6_port, host="::1")
    assert is_port_free(ipv6_port, host="127.0.0.1")


def test_every_client_reaches_a_server_on_ipv6(tmp_path: Path, ipv6_port: int) -> None:
    url = f"http://[::1]:{ipv6_port}"
    mlflow = build_components(make_stack_config(tmp_path, mlflow_url=url))[1]

    assert check_health(mlflow, make_stack_config(tmp_path)).is_up
    assert MlflowTracker(url).find_or_create_experiment("default").id == "7"
    with TandemClient(url) as client:
        assert client.runs().items == []


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", True),
        ("198.51.100.7", False),
        ("ray", False),
    ],
)
def test_this_machine_is_told_from_others(host: str, is_own: bool) -> None:
    assert is_own_host(host) is is_own
    assert is_own_host(socket.gethostname())


@pytest.mark.parametrize("name", ODD_NAMES)
def test_databases_are_in_the_home_whatever_its_name(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    settings = Settings(home=home)
    database = Database(settings.sqlalchemy_url)

    database.migrate()
    database.close()

    assert (home / "tandem.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_files_of_mlflow_are_in_the_home_whatever_its_name(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    mlflow = build_components(make_stack_config(tmp_path, home=home))[1]
    options = dict(part.split("=", 1) for part in mlflow.command if "=" in part)

    database = make_url(options["--backend-store-uri"]).database

    assert database == "mlflow/mlflow.db"  # it starts in the home
    assert local_file_uri_to_path(options["--artifacts-destination"]) == str(
        home / "mlflow" / "artifacts"
    )


def test_a_home_whose_name_no_address_can_contain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="not UTF-8; rename it"):
        Settings(home=tmp_path / "\udcff")
