"""Where a checkpoint comes from: a file on this machine, https or S3."""

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
"""Nothing larger is brought here; the largest detectors have about 1 GiB."""

_BLOCK_BYTES = 1 << 20
_MOST_REDIRECTS = 5
_TIMEOUT_S = 30.0

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes that are here and, if known, how many there will be."""


class SourceUnusable(Exception):
    """A source that gives no file; the message says which one and why."""


@dataclass(frozen=True)
class DownloadContext:
    """How the world beyond this machine is reached, and how much of it is let in."""

    make_client: Callable[[], httpx.Client]
    resolve_filesystem: Callable[[str], tuple[FileSystem, str]]
    """The filesystem of an s3:// URL, and the path in it."""

    max_bytes: int = MAX_BYTES
    allowed_hosts: AllowedHosts = field(default_factory=AllowedHosts.from_environment)
    """Which hosts may be reached at all."""


def default_download_context() -> DownloadContext:
    """https with the proxies and certificates of the environment, S3 with its credentials."""
    return DownloadContext(
        make_client=lambda: httpx.Client(timeout=_TIMEOUT_S), resolve_filesystem=FileSystem.from_uri
    )


@contextmanager
def open_local_copy(
    source: str, *, folder: Path, context: DownloadContext, on_bytes: OnBytes
) -> Iterator[Path]:
    """The file at `source`, as long as the context lasts; a local one is not copied.

    Raises `SourceUnusable`; what was brought to the folder `within` is removed at the end.
    """
    kind = urlsplit(source).scheme if "://" in source else "file"
    if kind == "file":
        yield _local_file(source)
        return
    if kind not in ("https", "s3"):
        raise SourceUnusable(f"{redact_source(source)}: only files, https:// and s3:// are read.")
    bring = _bring_over_https if kind == "https" else _bring_from_s3
    brought = folder / f"brought.{os.getpid()}.unfinished"
    try:
        with brought.open("wb") as file:
            bring(source, file, outside=context, on_bytes=on_bytes)
        yield brought
    finally:
        brought.unlink(missing_ok=True)


def redact_source(source: str) -> str:
    """A source as it may be written down: without folders of this machine and without secrets."""
    if "://" not in source:
        return Path(source).name
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _local_file(source: str) -> Path:
    path = Path(source.removeprefix("file://"))
    if not path.is_file():
        raise SourceUnusable(f"There is no file {path}.")
    return path


def _bring_over_https(
    url: str, file: BinaryIO, *, outside: DownloadContext, on_bytes: OnBytes
) -> None:
    try:
        with (
            outside.make_client() as client,
            _answer(client, url, gate=outside.allowed_hosts) as response,
        ):
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdigit() else None
            blocks = response.iter_raw(_BLOCK_BYTES)
            _write(blocks, file, total=total, limit=outside.max_bytes, on_bytes=on_bytes)
    except HostRefused as error:
        raise SourceUnusable(f"{redact_source(url)} was not brought here: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceUnusable(f"{redact_source(url)} was not brought here: {error!r}") from error


def _bring_from_s3(
    url: str, file: BinaryIO, *, outside: DownloadContext, on_bytes: OnBytes
) -> None:
    try:
        for endpoint in parse_qs(urlsplit(url).query).get("endpoint_override", []):
            outside.allowed_hosts.resolve_addresses(
                urlsplit(f"//{endpoint.rpartition('//')[2]}").hostname or ""
            )
        filesystem, path = outside.resolve_filesystem(url)
        with filesystem.open_input_file(path) as incoming:
            blocks = iter(lambda: incoming.read(_BLOCK_BYTES), b"")
            _write(blocks, file, total=incoming.size(), limit=outside.max_bytes, on_bytes=on_bytes)
    except (OSError, ValueError, HostRefused) as error:
        raise SourceUnusable(f"{redact_source(url)} was not brought here: {error}") from error


@contextmanager
def _answer(client: httpx.Client, url: str, *, gate: AllowedHosts) -> Iterator[httpx.Response]:
    """The answer after redirects, of which none may leave https or the gate's hosts."""
    place = httpx.URL(url)
    for _ in range(_MOST_REDIRECTS + 1):
        if place.scheme != "https":
            raise SourceUnusable(
                f"{redact_source(url)} leads to {redact_source(str(place))}, not to https."
            )
        response = _sent(client, place, gate=gate)
        try:
            if not response.has_redirect_location:
                if not response.is_success:
                    raise SourceUnusable(f"{redact_source(url)} answers {response.status_code}.")
                yield response
                return
            place = place.join(response.headers["location"])
        finally:
            response.close()
    raise SourceUnusable(f"{redact_source(url)} redirects more than {_MOST_REDIRECTS} times.")


def _sent(client: httpx.Client, place: httpx.URL, *, gate: AllowedHosts) -> httpx.Response:
    """The answer of the first address that lets us in.

    The connection goes to an address that was looked at, so a name that is resolved anew, and to
    something else, is of no use; the certificate is the name's all the same.
    """
    headers = {"accept-encoding": "identity", "host": place.netloc.decode("ascii")}
    if not (addresses := gate.resolve_addresses(place.host, place.port)):
        request = client.build_request("GET", place, headers=headers)
        return client.send(request, stream=True, follow_redirects=False)
    for number, address in enumerate(addresses, start=1):
        target = place.copy_with(host=address)
        request = client.build_request(
            "GET", target, headers=headers, extensions={"sni_hostname": place.host}
        )
        try:
            return client.send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses):
                raise
    raise AssertionError("A gate without addresses answers before.")


def _write(
    blocks: Iterator[bytes],
    file: BinaryIO,
    *,
    total: int | None,
    limit: int,
    on_bytes: OnBytes,
) -> None:
    if total is not None and total > limit:
        raise SourceUnusable(f"The file has {total} bytes; at most {limit} are brought here.")
    here = 0
    for block in blocks:
        here += len(block)
        if here > limit:
            raise SourceUnusable(f"The file has more than {limit} bytes; no more are brought here.")
        file.write(block)
        on_bytes(here, total)
    if total is not None and here < total:
        raise SourceUnusable(f"The file ends after {here} of {total} bytes; try again.")
