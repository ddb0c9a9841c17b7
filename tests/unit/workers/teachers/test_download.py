"""Downloads over TLS and from a filesystem in place of S3, and refusals."""

import os
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pyarrow.fs import FileSystem, LocalFileSystem

from tests.support.certificates import HOST_NAME, LOCALHOST, write_certificate
from workers.teachers.allowed_hosts import AllowedHosts
from workers.teachers.download import (
    DownloadContext,
    SourceUnusable,
    default_download_context,
    open_local_copy,
    redact_source,
)

CONTENT = os.urandom(3 << 20)


class FileHandler(BaseHTTPRequestHandler):
    """Serves one file, complete or truncated, and redirects."""

    def do_GET(self) -> None:
        if self.path == "/t.pth":
            self._respond(200, {"Content-Length": str(len(CONTENT))}, CONTENT)
        elif self.path == "/unannounced.pth":
            self._respond(200, {}, CONTENT)
        elif self.path == "/cut.pth":
            self._respond(200, {"Content-Length": str(len(CONTENT))}, CONTENT[:1000])
        elif self.path == "/moved.pth":
            self._respond(302, {"Location": "/t.pth"}, b"")
        elif self.path == "/unsafe.pth":
            self._respond(302, {"Location": "http://example.org/t.pth"}, b"")
        elif self.path == "/inwards.pth":
            location = f"https://{LOCALHOST}:{self.server.server_port}/t.pth"  # type: ignore[attr-defined]
            self._respond(302, {"Location": location}, b"")
        elif self.path == "/who.pth":
            self._respond(200, {}, self.headers["host"].encode())
        elif self.path == "/circle.pth":
            self._respond(302, {"Location": "/circle.pth"}, b"")
        else:
            self._respond(404, {}, b"")

    def log_message(self, *arguments: object) -> None:
        pass

    def _respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@dataclass(frozen=True)
class FileServer:
    url: str
    context: DownloadContext


@pytest.fixture(scope="module")
def file_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    certificate = write_certificate(tmp_path_factory.mktemp("tls") / "server.pem")
    server = ThreadingHTTPServer((LOCALHOST, 0), FileHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    trusting = ssl.create_default_context(cafile=certificate)
    download_context = replace(
        default_download_context(),
        allowed_hosts=AllowedHosts(allows_private=True),
        make_client=lambda: httpx.Client(verify=trusting, trust_env=False, timeout=5.0),
    )
    yield FileServer(f"https://{LOCALHOST}:{server.server_port}", download_context)
    server.shutdown()
    server.server_close()
    thread.join()


def make_context(folder: Path) -> DownloadContext:
    """Make a context with a folder instead of S3: bucket and key are a path in it."""

    def open_filesystem(url: str) -> tuple[FileSystem, str]:
        parts = urlsplit(url)
        return LocalFileSystem(), f"{folder}/{parts.netloc}{parts.path}"

    return replace(default_download_context(), resolve_filesystem=open_filesystem)


def download(source: str, *, folder: Path, context: DownloadContext) -> bytes:
    with open_local_copy(source, folder=folder, context=context, on_bytes=ignore) as file:
        content = file.read_bytes()
    assert list(folder.iterdir()) == []
    return content


def ignore(num_bytes: int, total: int | None) -> None:
    pass


@pytest.mark.parametrize("path", ["t.pth", "unannounced.pth", "moved.pth"])
def test_a_file_comes_over_https(file_server: FileServer, tmp_path: Path, path: str) -> None:
    content = download(f"{file_server.url}/{path}", folder=tmp_path, context=file_server.context)

    assert content == CONTENT


def test_progress_is_reported_in_bytes(file_server: FileServer, tmp_path: Path) -> None:
    progress: list[tuple[int, int | None]] = []

    with open_local_copy(
        f"{file_server.url}/t.pth",
        folder=tmp_path,
        context=file_server.context,
        on_bytes=lambda num_bytes, total: progress.append((num_bytes, total)),
    ):
        pass

    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert len(progress) > 1


def test_a_download_uses_the_checked_address_and_the_requested_name(
    file_server: FileServer, tmp_path: Path
) -> None:
    resolved_hosts: list[str] = []
    context = make_context_with_hosts(file_server, resolved_hosts=resolved_hosts)
    port = urlsplit(file_server.url).port

    host = download(f"https://{HOST_NAME}:{port}/who.pth", folder=tmp_path, context=context)
    content = download(f"https://{HOST_NAME}:{port}/moved.pth", folder=tmp_path, context=context)

    assert host == f"{HOST_NAME}:{port}".encode()
    assert content == CONTENT
    assert resolved_hosts == [HOST_NAME] * 3  # once for each request, and never again


def test_a_redirect_into_this_network_is_not_followed(
    file_server: FileServer, tmp_path: Path
) -> None:
    context = make_context_with_hosts(file_server, resolved_hosts=[])
    port = urlsplit(file_server.url).port

    with pytest.raises(SourceUnusable, match=r"127\.0\.0\.1, which is no public address"):
        download(f"https://{HOST_NAME}:{port}/inwards.pth", folder=tmp_path, context=context)


def make_context_with_hosts(
    file_server: FileServer, *, resolved_hosts: list[str]
) -> DownloadContext:
    """Make a context in which the server's name resolves to it and its address is public."""
    by_name = "127.0.0.1"

    def resolve(host: str, port: int) -> list[str]:
        resolved_hosts.append(host)
        return [by_name if host == HOST_NAME else f"::ffff:{host}"]

    gate = AllowedHosts(
        resolve=resolve, is_proxied=lambda host: False, is_public=lambda address: address == by_name
    )
    return replace(file_server.context, allowed_hosts=gate)


@pytest.mark.parametrize(
    "source",
    [
        "https://localhost:1/t.pth",
        "https://127.0.0.1:1/t.pth",
        "https://[::1]:1/t.pth",
        "https://[::ffff:10.0.0.1]/t.pth",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/t.pth",
        "s3://bucket/t.pth?endpoint_override=127.0.0.1:9000&scheme=http",
        "s3://bucket/t.pth?endpoint_override=http%3A%2F%2F169.254.169.254",
    ],
)
def test_nothing_is_brought_from_this_network(tmp_path: Path, source: str) -> None:
    context = replace(
        default_download_context(), allowed_hosts=AllowedHosts(is_proxied=lambda host: False)
    )

    with pytest.raises(SourceUnusable, match="TANDEM_ALLOW_PRIVATE_SOURCES"):
        download(source, folder=tmp_path, context=context)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none.pth", "answers 404"),
        ("cut.pth", "could not be downloaded"),
        ("unsafe.pth", "not to https"),
        ("circle.pth", "more than 5 times"),
    ],
)
def test_a_missing_or_truncated_download_is_refused(
    file_server: FileServer, tmp_path: Path, path: str, reason: str
) -> None:
    with pytest.raises(SourceUnusable, match=reason):
        download(f"{file_server.url}/{path}", folder=tmp_path, context=file_server.context)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["t.pth", "unannounced.pth"])
def test_a_file_that_is_too_large_is_not_download(
    file_server: FileServer, tmp_path: Path, path: str
) -> None:
    narrow = replace(file_server.context, max_bytes=1 << 20)

    with pytest.raises(SourceUnusable, match="1048576"):
        download(f"{file_server.url}/{path}", folder=tmp_path, context=narrow)

    assert list(tmp_path.iterdir()) == []


def test_a_server_with_an_untrusted_certificate_is_refused(
    file_server: FileServer, tmp_path: Path
) -> None:
    strict = replace(
        file_server.context, make_client=lambda: httpx.Client(trust_env=False, timeout=5.0)
    )

    with pytest.raises(SourceUnusable, match="CERTIFICATE_VERIFY_FAILED"):
        download(f"{file_server.url}/t.pth", folder=tmp_path, context=strict)


def test_a_file_comes_from_a_bucket(tmp_path: Path) -> None:
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    (tmp_path / "store" / "bucket" / "t.pth").write_bytes(CONTENT)
    (tmp_path / "out").mkdir()

    content = download(
        "s3://bucket/t.pth", folder=tmp_path / "out", context=make_context(tmp_path / "store")
    )

    assert content == CONTENT


def test_a_key_that_is_not_in_the_bucket_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnusable, match=r"s3://bucket/none\.pth could not be downloaded"):
        download("s3://bucket/none.pth", folder=tmp_path, context=make_context(tmp_path))


@pytest.mark.skipif(
    "TANDEM_TEST_S3_FILE" not in os.environ,
    reason="TANDEM_TEST_S3_FILE names no s3:// file that the environment's credentials can read",
)
def test_a_file_comes_from_real_s3(tmp_path: Path) -> None:
    source = os.environ["TANDEM_TEST_S3_FILE"]

    assert download(source, folder=tmp_path, context=default_download_context())


@pytest.mark.parametrize("source", ["http://example.org/t.pth", "ftp://example.org/t.pth"])
def test_what_anybody_could_change_on_the_way_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(SourceUnusable, match="only local files, https:// and s3://"):
        download(source, folder=tmp_path, context=default_download_context())


def test_a_local_file_stays_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "t.pth"
    file.write_bytes(b"weights")

    with open_local_copy(
        str(file), folder=tmp_path, context=default_download_context(), on_bytes=ignore
    ) as copy:
        assert copy == file

    assert file.exists()


def test_a_missing_local_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnusable, match="There is no file"):
        download(str(tmp_path / "none.pth"), folder=tmp_path, context=default_download_context())


@pytest.mark.parametrize(
    ("source", "as_written"),
    [
        ("/home/somebody/t.pth", "t.pth"),
        ("https://user:secret@example.org/t.pth?token=secret", "https://example.org/t.pth"),
        ("s3://key:secret@bucket/t.pth?region=eu", "s3://bucket/t.pth"),
    ],
)
def test_what_is_written_down_has_neither_folders_nor_secrets(source: str, as_written: str) -> None:
    assert redact_source(source) == as_written
