"""Somebody without a token, at the other end of a connection."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import ValidationError
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp

from service.domain.access import AuditEntry
from service.domain.errors.requests import ValueRefused
from service.domain.vocabulary import Role
from service.http_server import LimitedProtocol
from service.settings import Settings
from service.stack.ports import choose_free_port
from service.store.access import SqlAuditLog
from tests.support.factories import make_spec
from tests.support.service.access import make_token, send_request
from tests.support.service.stage import ON_BOTH_DATABASES, Stage, open_stage

LETTERS = "a" * 100
CONTENT_TYPES = (b"text/plain", b"application/xml", b"json", b"\xff/json", b"a/b;c=\xe9")


class TestAddresses:
    """Nobody chooses the address under which the service knows him."""

    def test_a_header_of_anybody_has_no_effect(self, stage: Stage) -> None:
        put_project(stage, {"X-Forwarded-For": "203.0.113.7"})

        assert audited_addresses(stage) == ["127.0.0.1"]

    def test_a_trusted_proxy_names_its_sender(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, trusted_proxies=["127.0.0.1", "10.0.0.0/8"]) as stage:
            for forwarded in (
                "203.0.113.7",
                "198.51.100.1, 203.0.113.7, 10.1.2.3",
                f"{LETTERS}, 203.0.113.7:4711",
                "[2001:db8::7]:4711",
            ):
                put_project(stage, {"X-Forwarded-For": forwarded})

            assert audited_addresses(stage) == [*["203.0.113.7"] * 3, "2001:db8::7"]

    @pytest.mark.parametrize("forwarded", [LETTERS, "", "unknown", f"fe80::1%{LETTERS}", "[::1"])
    def test_an_entry_that_is_no_address_is_not_taken(self, tmp_path: Path, forwarded: str) -> None:
        with open_stage(tmp_path, trusted_proxies=["127.0.0.1"]) as stage:
            put_project(stage, {"X-Forwarded-For": forwarded})

            assert audited_addresses(stage) == ["127.0.0.1"]

    @pytest.mark.parametrize("proxies", [["everywhere"], ["10.0.0.1/8"], ["*"]])
    def test_a_proxy_is_an_address_or_a_network(self, tmp_path: Path, proxies: list[str]) -> None:
        with pytest.raises(ValidationError):
            Settings(home=tmp_path, trusted_proxies=proxies)

    def test_guesses_of_tokens_are_counted_for_each_sender(self, tmp_path: Path) -> None:
        with open_stage(
            tmp_path, auth="tokens", refusal_limit="1/minute", trusted_proxies=["127.0.0.1"]
        ) as stage:
            statuses = [
                stage.http.get("/v1/runs", headers={"X-Forwarded-For": address}).status_code
                for address in ("203.0.113.7", "203.0.113.7", "203.0.113.8")
            ]

        assert statuses == [401, 429, 401]


class TestAudit:
    """There is no change without an entry in the audit log."""

    @ON_BOTH_DATABASES
    def test_a_change_whose_entry_cannot_be_stored_is_not_made(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=make_spec())["id"]

        def refuse(_log: SqlAuditLog, _entry: AuditEntry) -> int:
            raise ValueRefused("the address is too long")

        monkeypatch.setattr(SqlAuditLog, "add", refuse)
        answers = [
            stage.http.post(f"/v1/runs/{run_id}:cancel"),
            stage.http.post("/v1/runs", json={"spec": make_spec()}),
            stage.http.put("/v1/projects/ours", json={"max_runs": 1}),
            stage.http.post("/v1/tokens", json={"name": "x"}),
        ]

        assert [response.status_code for response in answers] == [422] * 4
        assert stage.run(run_id)["state"] == "queued"
        assert len(stage.http.get("/v1/runs").json()["items"]) == 1
        assert stage.http.get("/v1/projects").json() == []
        assert stage.http.get("/v1/tokens").json()["items"] == []

    @ON_BOTH_DATABASES
    def test_a_client_with_a_long_address_leaves_an_entry_or_nothing(self, stage: Stage) -> None:
        app = stage.app

        async def rename_client(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "client": (LETTERS, 0)}, receive, send)

        transport = httpx.ASGITransport(rename_client)
        response = run_async(transport, "PUT", "http://localhost/v1/projects/ours", json={})

        entries = stage.http.get("/v1/audit").json()["items"]
        assert (response.status_code == 200) == (len(entries) == 1)

    def test_an_entry_of_an_interrupted_request_has_no_final_status(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("the disk is full")

        monkeypatch.setattr(SqlAuditLog, "complete", fail)
        response = stage.http.put("/v1/projects/ours", json={})

        assert response.status_code == 200
        (entry,) = stage.http.get("/v1/audit").json()["items"]
        assert (entry["path"], entry["status"]) == ("/v1/projects/ours", 102)
        assert "audit.write_failed" in capfd.readouterr().out


class TestConnections:
    """A connection that sends nothing, or not all of its request, is closed."""

    @pytest.mark.parametrize(
        "sent",
        [b"", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "],
        ids=["nothing", "half a line", "half of the headers"],
    )
    def test_headers_have_a_time_limit(self, sent: bytes) -> None:
        with serve(header_timeout_s=0.2) as port, connect(port) as connection:
            connection.sendall(sent)

            assert read_all(connection).startswith(b"HTTP/1.1 408 ")

    def test_drops_do_not_prolong_the_time_limit(self) -> None:
        with serve(header_timeout_s=0.4) as port, connect(port) as connection:
            answer = drip(connection, b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 200)

        assert answer.startswith(b"HTTP/1.1 408 ")

    def test_a_body_has_a_time_limit(self) -> None:
        with serve(body_timeout_s=0.2) as port, connect(port) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab")

            assert read_all(connection).startswith(b"HTTP/1.1 408 ")

    def test_the_next_request_of_a_connection_has_one_too(self) -> None:
        with serve(header_timeout_s=0.3) as port, connect(port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT")
            answer = read_all(connection)

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1 ") <= 2

    def test_a_response_may_take_longer_than_the_request(self) -> None:
        with serve(header_timeout_s=0.1, body_timeout_s=0.1) as port, connect(port) as connection:
            connection.sendall(
                b"GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )

            assert b"slow" in read_all(connection)

    def test_connections_beyond_the_limit_are_refused(self) -> None:
        with serve(max_connections=3) as port, ExitStack() as stack:
            held = [stack.enter_context(connect(port)) for _ in range(3)]
            for connection in held:
                connection.sendall(b"GET / HTT")
            with connect(port) as refused:
                answer = read_all(refused)
            held[0].close()
            recovered = wait_for_answer(port)

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"application/problem+json" in answer
        assert httpx.Response(503, content=answer.partition(b"\r\n\r\n")[2]).json()["status"] == 503
        assert recovered.startswith(b"HTTP/1.1 200 ")

    def test_an_answer_ends_whose_client_takes_nothing(self) -> None:
        has_ended = threading.Event()

        async def iter_forever() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 2**16
                    await asyncio.sleep(0)
            finally:
                has_ended.set()

        answer = StreamingResponse(iter_forever())
        with serve(answer, send_timeout_s=0.3) as port, connect(port) as client:
            client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")

            assert has_ended.wait(30)


class TestOddRequests:
    """What is no request of this API is answered 4xx."""

    def test_a_wrong_content_type_is_a_415(self, stage: Stage) -> None:
        paths = ("/v1/runs", "/v1/sweeps", "/v1/runs/r1:prioritize", "/v1/attempts:over")
        for path, content_type in product(paths, CONTENT_TYPES):
            response = stage.http.post(
                path, content=b"{}", headers=[(b"Content-Type", content_type)]
            )

            assert response.status_code == 415, (path, content_type)

    @pytest.mark.parametrize(
        "path", ["/v1/runs/" + "a/" * 5000, "/v1/" + "%2f" * 5000, "/v1" + "/" * 5000]
    )
    def test_a_path_of_many_parts_is_a_404(self, stage: Stage, path: str) -> None:
        for method in ("GET", "POST", "DELETE"):
            response = stage.http.request(method, path)

            assert 400 <= response.status_code < 500

    @pytest.mark.parametrize("host", ["[::1", "a:b:c", "[", "evil.example", "\xe9"])
    def test_an_odd_host_is_a_421(self, stage: Stage, host: str) -> None:
        response = stage.http.get("/v1/runs", headers=[(b"Host", host.encode("latin-1"))])

        assert response.status_code == 421

    @pytest.mark.parametrize("tag", ['a"b=1', "a.b=1", "$[0]=1", "a\\=1", "'=1", "\x00=1", "é=1"])
    def test_an_odd_tag_filters_runs(self, any_stage: Stage, tag: str) -> None:
        response = any_stage.http.get("/v1/runs", params={"tag": tag})

        assert response.status_code in (200, 422)

    def test_a_stranger_is_not_served_from_a_large_body(self, tmp_path: Path) -> None:
        with open_stage(tmp_path, auth="tokens") as guarded:
            token = make_token(guarded, "vera", Role.VIEWER)
            without_token = guarded.http.post("/v1/runs", content=b"[" * 5_000_000)
            with_token = send_request(
                guarded, "POST", "/v1/runs:plan", token, content=b"[" * 300_000
            )

        assert (without_token.status_code, with_token.status_code) == (401, 413)


def put_project(stage: Stage, headers: dict[str, str]) -> None:
    assert stage.http.put("/v1/projects/ours", json={}, headers=headers).status_code == 200


def audited_addresses(stage: Stage) -> list[str]:
    entries = stage.http.get("/v1/audit").json()["items"]
    return [entry["address"] for entry in reversed(entries)]


def run_async(transport: httpx.AsyncBaseTransport, method: str, url: str, **options: Any) -> Any:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.request(method, url, **options)

    return asyncio.run(send())


async def answer_request(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads the body, then answers."""
    if scope["type"] != "http":
        return
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].strip("/").encode()})


@contextmanager
def serve(app: ASGIApp = answer_request, **limits: Any) -> Iterator[int]:
    """A server in a thread of this process with other limits; yields its port."""
    port = choose_free_port()
    protocol = type("Protocol", (LimitedProtocol,), {"max_connections": 100, **limits})
    config = uvicorn.Config(app, port=port, http=protocol, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline_s = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline_s:
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(30)


def connect(port: int) -> closing[socket.socket]:
    return closing(socket.create_connection(("127.0.0.1", port), timeout=30))


def read_all(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    content = b""
    while part := connection.recv(65536):
        content += part
    return content


def drip(connection: socket.socket, content: bytes) -> bytes:
    """Send byte after byte until the server closes the connection; returns what it sent."""
    connection.settimeout(0.02)
    for position in range(len(content)):
        try:
            connection.sendall(content[position : position + 1])
            if answer := connection.recv(65536):
                return answer
        except TimeoutError:
            continue
        except OSError:
            break
    return b""


def wait_for_answer(port: int) -> bytes:
    deadline_s = time.monotonic() + 30
    answer = b""
    while not answer.startswith(b"HTTP/1.1 200 ") and time.monotonic() < deadline_s:
        with connect(port) as connection:
            try:
                connection.sendall(
                    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )
                answer = read_all(connection)
            except OSError:
                time.sleep(0.02)
    return answer
