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

from workers.teachers.allowed_hosts import Gate, HostRefused

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
class Outside:
    """How the world beyond this machine is reached, and how much of it is let in."""

    client: Callable[[], httpx.Client]
    filesystem_of: Callable[[str], tuple[FileSystem, str]]
    """The filesystem of an s3:// URL, and the path in it."""

    max_bytes: int = MAX_BYTES
    gate: Gate = field(default_factory=Gate.of)
    """Which hosts may be reached at all."""


def the_outside() -> Outside:
    """https with the proxies and certificates of the environment, S3 with its credentials."""
    return Outside(
        client=lambda: httpx.Client(timeout=_TIMEOUT_S), filesystem_of=FileSystem.from_uri
    )


@contextmanager
def local_copy(source: str, *, within: Path, outside: Outside, on_bytes: OnBytes) -> Iterator[Path]:
    """The file at `source`, as long as the context lasts; a local one is not copied.

    Raises `SourceUnusable`; what was brought to the folder `within` is removed at the end.
    """
    kind = urlsplit(source).scheme if "://" in source else "file"
    if kind == "file":
        yield _local_file(source)
        return
    if kind not in ("https", "s3"):
        raise SourceUnusable(f"{shown(source)}: only files, https:// and s3:// are read.")
    bring = _bring_over_https if kind == "https" else _bring_from_s3
    brought = within / f"brought.{os.getpid()}.unfinished"
    try:
        with brought.open("wb") as file:
            bring(source, file, outside=outside, on_bytes=on_bytes)
        yield brought
    finally:
        brought.unlink(missing_ok=True)


def shown(source: str) -> str:
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


def _bring_over_https(url: str, file: BinaryIO, *, outside: Outside, on_bytes: OnBytes) -> None:
    try:
        with outside.client() as client, _answer(client, url, gate=outside.gate) as response:
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdigit() else None
            blocks = response.iter_raw(_BLOCK_BYTES)
            _write(blocks, file, total=total, limit=outside.max_bytes, on_bytes=on_bytes)
    except HostRefused as error:
        raise SourceUnusable(f"{shown(url)} was not brought here: {error}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceUnusable(f"{shown(url)} was not brought here: {error!r}") from error


def _bring_from_s3(url: str, file: BinaryIO, *, outside: Outside, on_bytes: OnBytes) -> None:
    try:
        for endpoint in parse_qs(urlsplit(url).query).get("endpoint_override", []):
            outside.gate.addresses(urlsplit(f"//{endpoint.rpartition('//')[2]}").hostname or "")
        filesystem, path = outside.filesystem_of(url)
        with filesystem.open_input_file(path) as incoming:
            blocks = iter(lambda: incoming.read(_BLOCK_BYTES), b"")
            _write(blocks, file, total=incoming.size(), limit=outside.max_bytes, on_bytes=on_bytes)
    except (OSError, ValueError, HostRefused) as error:
        raise SourceUnusable(f"{shown(url)} was not brought here: {error}") from error


@contextmanager
def _answer(client: httpx.Client, url: str, *, gate: Gate) -> Iterator[httpx.Response]:
    """The answer after redirects, of which none may leave https or the gate's hosts."""
    place = httpx.URL(url)
    for _ in range(_MOST_REDIRECTS + 1):
        if place.scheme != "https":
            raise SourceUnusable(f"{shown(url)} leads to {shown(str(place))}, not to https.")
        response = _sent(client, place, gate=gate)
        try:
            if not response.has_redirect_location:
                if not response.is_success:
                    raise SourceUnusable(f"{shown(url)} answers {response.status_code}.")
                yield response
                return
            place = place.join(response.headers["location"])
        finally:
            response.close()
    raise SourceUnusable(f"{shown(url)} redirects more than {_MOST_REDIRECTS} times.")


def _sent(client: httpx.Client, place: httpx.URL, *, gate: Gate) -> httpx.Response:
    """The answer of the first address that lets us in.

    The connection goes to an address that was looked at, so a name that is resolved anew, and to
    something else, is of no use; the certificate is the name's all the same.
    """
    headers = {"accept-encoding": "identity", "host": place.netloc.decode("ascii")}
    if not (addresses := gate.addresses(place.host, place.port)):
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
