"""Provides a checkpoint as a local file, from a path, https or S3."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

import httpx
from pyarrow.fs import FileSystem

from workers.teachers.allowed_hosts import AllowedHosts, HostRefused

MAX_BYTES = 8 << 30
"""Maximum size of a download; the largest detectors have about 1 GiB."""

_BLOCK_BYTES = 1 << 20
_MAX_REDIRECTS = 5
_TIMEOUT_S = 30.0

OnBytes = Callable[[int, int | None], None]
"""Called with the number of downloaded bytes and, if known, the total."""


class SourceUnusable(Exception):
    """A source cannot be downloaded; the message says which one and why."""


@dataclass(frozen=True)
class DownloadContext:
    """Clients, limits and allowed hosts of downloads."""

    make_client: Callable[[], httpx.Client]
    resolve_filesystem: Callable[[str], tuple[FileSystem, str]]
    """Resolves an s3:// URL to a filesystem and a path in it."""

    max_bytes: int = MAX_BYTES
    allowed_hosts: AllowedHosts = field(default_factory=AllowedHosts.from_environment)
    """Hosts that may be contacted."""


def default_download_context() -> DownloadContext:
    """Use proxies, certificates and S3 credentials of the environment."""
    return DownloadContext(
        make_client=lambda: httpx.Client(timeout=_TIMEOUT_S), resolve_filesystem=FileSystem.from_uri
    )


@contextmanager
def open_local_copy(
    source: str, *, folder: Path, context: DownloadContext, on_bytes: OnBytes
) -> Iterator[Path]:
    """Yield `source` as a local file; a download goes to `folder` and is deleted at the end.

    A file of this machine is not copied. Raises `SourceUnusable`.
    """
    kind = urlsplit(source).scheme if "://" in source else "file"
    if kind == "file":
        yield _local_file(source)
        return
    if kind not in ("https", "s3"):
        raise SourceUnusable(
            f"{redact_source(source)}: only local files, https:// and s3:// are supported."
        )
    download = _download_https if kind == "https" else _download_s3
    downloaded = folder / f"download.{os.getpid()}.unfinished"
    try:
        with downloaded.open("wb") as file:
            download(source, file, context=context, on_bytes=on_bytes)
        yield downloaded
    finally:
        downloaded.unlink(missing_ok=True)


def redact_source(source: str) -> str:
    """Remove local folders and credentials from a source, for messages and cards."""
    if "://" not in source:
        return Path(source).name
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _local_file(source: str) -> Path:
    path = Path(source.removeprefix("file://"))
    if not path.is_file():
        raise SourceUnusable(f"There is no file {path}.")
    return path


def _download_https(
    url: str, file: BinaryIO, *, context: DownloadContext, on_bytes: OnBytes
) -> None:
    try:
        with (
            context.make_client() as client,
            _open_response(client, url, allowed_hosts=context.allowed_hosts) as response,
        ):
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdigit() else None
            blocks = response.iter_raw(_BLOCK_BYTES)
            _write_limited(blocks, file, total=total, limit=context.max_bytes, on_bytes=on_bytes)
    except HostRefused as error:
        raise SourceUnusable(f"{redact_source(url)} could not be downloaded: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceUnusable(f"{redact_source(url)} could not be downloaded: {error!r}") from error


def _download_s3(url: str, file: BinaryIO, *, context: DownloadContext, on_bytes: OnBytes) -> None:
    try:
        for endpoint in parse_qs(urlsplit(url).query).get("endpoint_override", []):
            context.allowed_hosts.resolve_addresses(
                urlsplit(f"//{endpoint.rpartition('//')[2]}").hostname or ""
            )
        filesystem, path = context.resolve_filesystem(url)
        with filesystem.open_input_file(path) as incoming:
            blocks = iter(lambda: incoming.read(_BLOCK_BYTES), b"")
            _write_limited(
                blocks, file, total=incoming.size(), limit=context.max_bytes, on_bytes=on_bytes
            )
    except (OSError, ValueError, HostRefused) as error:
        raise SourceUnusable(f"{redact_source(url)} could not be downloaded: {error}") from error


@contextmanager
def _open_response(
    client: httpx.Client, url: str, *, allowed_hosts: AllowedHosts
) -> Iterator[httpx.Response]:
    """Follow redirects, which must stay within https and the allowed hosts."""
    location = httpx.URL(url)
    for _ in range(_MAX_REDIRECTS + 1):
        if location.scheme != "https":
            raise SourceUnusable(
                f"{redact_source(url)} leads to {redact_source(str(location))}, not to https."
            )
        response = _send_request(client, location, allowed_hosts=allowed_hosts)
        try:
            if not response.has_redirect_location:
                if not response.is_success:
                    raise SourceUnusable(f"{redact_source(url)} answers {response.status_code}.")
                yield response
                return
            location = location.join(response.headers["location"])
        finally:
            response.close()
    raise SourceUnusable(f"{redact_source(url)} redirects more than {_MAX_REDIRECTS} times.")


def _send_request(
    client: httpx.Client, location: httpx.URL, *, allowed_hosts: AllowedHosts
) -> httpx.Response:
    """Request a URL from the first of its addresses that accepts the connection.

    The connection uses an address that was checked, so that a second resolution of the name cannot
    lead elsewhere (DNS rebinding). The certificate is still verified for the name.
    """
    headers = {"accept-encoding": "identity", "host": location.netloc.decode("ascii")}
    if not (addresses := allowed_hosts.resolve_addresses(location.host, location.port)):
        request = client.build_request("GET", location, headers=headers)
        return client.send(request, stream=True, follow_redirects=False)
    for number, address in enumerate(addresses, start=1):
        target = location.copy_with(host=address)
        request = client.build_request(
            "GET", target, headers=headers, extensions={"sni_hostname": location.host}
        )
        try:
            return client.send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses):
                raise
    raise AssertionError("unreachable: there is at least one address")


def _write_limited(
    blocks: Iterator[bytes],
    file: BinaryIO,
    *,
    total: int | None,
    limit: int,
    on_bytes: OnBytes,
) -> None:
    if total is not None and total > limit:
        raise SourceUnusable(f"The file has {total} bytes; at most {limit} are downloaded.")
    num_bytes = 0
    for block in blocks:
        num_bytes += len(block)
        if num_bytes > limit:
            raise SourceUnusable(f"The file has more than {limit} bytes; no more are downloaded.")
        file.write(block)
        on_bytes(num_bytes, total)
    if total is not None and num_bytes < total:
        raise SourceUnusable(f"The file ends after {num_bytes} of {total} bytes; try again.")
