"""Decides which hosts may be downloaded from; private addresses are refused by default.

Users choose the source, but this machine downloads it: without this check, it could be made to
request addresses of its own network (a cloud's metadata, a database, the service itself).
"""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.request import getproxies, proxy_bypass

HOSTS_VARIABLE = "TANDEM_SOURCE_HOSTS"
ALLOW_PRIVATE_VARIABLE = "TANDEM_ALLOW_PRIVATE_SOURCES"

_NAT64 = IPv6Network("64:ff9b::/96")
_HTTPS_PORT = 443

Resolve = Callable[[str, int], Sequence[str]]
"""Resolves a host and port to IP addresses."""


class HostRefused(Exception):
    """Downloads from a host are not allowed; the message says which one and why."""


@dataclass(frozen=True)
class AllowedHosts:
    """The policy for hosts to download from."""

    hosts: tuple[str, ...] = ()
    """Patterns such as `*.example.org`; if there are none, any public host is allowed."""

    allows_private: bool = False
    resolve: Resolve = lambda host, port: _resolve(host, port)
    is_proxied: Callable[[str], bool] = lambda host: _is_proxied(host)
    is_public: Callable[[str], bool] = lambda address: is_public(address)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "AllowedHosts":
        """Read the policy from environment variables."""
        patterns = (
            pattern.strip().lower() for pattern in environment.get(HOSTS_VARIABLE, "").split(",")
        )
        return cls(
            hosts=tuple(pattern for pattern in patterns if pattern),
            allows_private=environment.get(ALLOW_PRIVATE_VARIABLE, "") == "1",
        )

    def resolve_addresses(self, host: str, port: int | None = None) -> tuple[str, ...]:
        """Resolve `host` to the addresses that a connection may use.

        Raises `HostRefused` if any of its addresses is refused, because the owner of the name
        chooses their order. Returns an empty tuple if every address is allowed, or if a proxy,
        which resolves the name itself, makes the connection.
        """
        name = host.lower().rstrip(".")
        self._check_listed(name)
        if self.allows_private:
            return ()
        if self.is_proxied(name) and not _is_address(name):
            self._check_not_local(name)
            return ()
        addresses = tuple(self.resolve(name, port or _HTTPS_PORT))
        if not addresses:
            raise HostRefused(f"{host} has no address.")
        for address in addresses:
            if not self.is_public(address):
                raise HostRefused(
                    _format_refusal(host, f"at {address}, which is no public address")
                )
        return addresses

    def _check_listed(self, name: str) -> None:
        if self.hosts and not any(fnmatchcase(name, pattern) for pattern in self.hosts):
            raise HostRefused(
                f"Downloads from {name} are not allowed; {HOSTS_VARIABLE} allows "
                f"{', '.join(self.hosts)}."
            )

    def _check_not_local(self, name: str) -> None:
        if "." not in name or name.endswith((".local", ".internal")):
            raise HostRefused(_format_refusal(name, "a name of this network"))


def is_public(address: str) -> bool:
    """Whether an address is a public unicast address.

    IPv6 addresses that embed an IPv4 address are judged by that.
    """
    parsed = ip_address(address.partition("%")[0])
    embedded = _extract_ipv4(parsed) if isinstance(parsed, IPv6Address) else None
    if embedded is not None:
        return is_public(str(embedded))
    # Python counts fec0::/10 as global, which was made for sites before fc00::/7.
    is_site_local = isinstance(parsed, IPv6Address) and parsed.is_site_local
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or is_site_local)


def _extract_ipv4(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _format_refusal(host: str, what: str) -> str:
    return (
        f"{host} is {what}; downloads from it are refused unless {ALLOW_PRIVATE_VARIABLE}=1 is set "
        "in the environment."
    )


def _resolve(host: str, port: int) -> Sequence[str]:
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HostRefused(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def _is_proxied(host: str) -> bool:
    proxies = getproxies()
    return bool(proxies.get("https") or proxies.get("all")) and not proxy_bypass(host)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
