"""Command lines of curl as requests."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit


@dataclass(frozen=True)
class CurlRequest:
    """A request as curl would send it."""

    method: str
    path: str
    headers: dict[str, str]
    body: str | None


def parse_curl(arguments: list[str]) -> CurlRequest:
    """Parse the options that the documents use; raise `ValueError` for any other one."""
    method: str | None = None
    body: str | None = None
    url: SplitResult | None = None
    headers: dict[str, str] = {}
    iterator = iter(arguments)
    for argument in iterator:
        match argument:
            case "-X" | "--request":
                method = _value(argument, iterator)
            case "-H" | "--header":
                name, _, value = _value(argument, iterator).partition(": ")
                headers[name] = value
            case "-d" | "--data":
                body = _value(argument, iterator)
            case _ if argument.startswith("-") or url is not None:
                raise ValueError(
                    f"{argument} is not an option that the tests know; extend parse_curl"
                )
            case _:
                url = urlsplit(argument)
    if url is None:
        raise ValueError("there is no URL")
    path = f"{url.path}?{url.query}" if url.query else url.path
    return CurlRequest(method or ("GET" if body is None else "POST"), path, headers, body)


def _value(option: str, iterator: Iterator[str]) -> str:
    value = next(iterator, None)
    if value is None:
        raise ValueError(f"{option} has no value")
    return value
