"""Finds the address of a caller behind a proxy."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class ClientAddressMiddleware:
    """Takes the caller's address from `X-Forwarded-For` if a trusted proxy has sent it.

    Rate limits and the audit log use the address. From any other sender the header has no effect:
    whoever sends it could choose its value. uvicorn's own middleware trusts loopback by default,
    and takes any text as the address.
    """

    def __init__(self, app: ASGIApp, *, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = tuple(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the caller in `scope["client"]` and its scheme."""
        if scope["type"] == "http" and scope.get("client") is not None:
            sender = _parse_address(scope["client"][0])
            if sender is not None and self._is_trusted(sender):
                headers = Headers(scope=scope)
                caller = self._find_caller(sender, headers.getlist("x-forwarded-for"))
                scheme = headers.get("x-forwarded-proto", "")
                scheme = scheme if scheme in ("http", "https") else scope["scheme"]
                scope = {**scope, "client": (str(caller), 0), "scheme": scheme}
        await self._app(scope, receive, send)

    def _find_caller(self, sender: Address, headers: list[str]) -> Address:
        """The last address that no trusted proxy has; what precedes it may be invented.

        Each proxy appends the address of its sender. An entry that is no address ends the search.
        """
        caller = sender
        for entry in reversed([entry for header in headers for entry in header.split(",")]):
            address = _parse_address(entry.strip())
            if address is None:
                break
            caller = address
            if not self._is_trusted(address):
                break
        return caller

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)


def _parse_address(entry: str) -> Address | None:
    """The IP address of an entry, with or without a port. None if it is anything else, also with a
    zone, which is arbitrary text."""
    for host in (entry, _parse_host(entry)):
        try:
            return None if "%" in host else ip_address(host)
        except ValueError:
            continue
    return None


def _parse_host(entry: str) -> str:
    """The host of `192.0.2.1:80` or `[2001:db8::1]:80`; empty if it cannot be parsed."""
    try:
        return urlsplit(f"//{entry}").hostname or ""
    except ValueError:
        return ""
