"""Which hosts a file may be brought from: never this network's own, unless it is allowed.

A source is what somebody typed, and who downloads is this machine: an address of its own network
would be reached with its rights (a cloud's metadata, a database, the service itself).
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
"""Addresses of a host."""


class HostRefused(Exception):
    """A host that nothing is brought from; the message says which one and why."""


@dataclass(frozen=True)
class AllowedHosts:
    """Says of a host whether it may be reached, and at which addresses."""

    hosts: tuple[str, ...] = ()
    """Patterns as `*.example.org`; none: any public host."""

    allows_private: bool = False
    resolve: Resolve = lambda host, port: _addresses_of(host, port)
    is_proxied: Callable[[str], bool] = lambda host: _is_proxied(host)
    is_public: Callable[[str], bool] = lambda address: is_public(address)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "AllowedHosts":
        """As the environment says."""
        patterns = (
            pattern.strip().lower() for pattern in environment.get(HOSTS_VARIABLE, "").split(",")
        )
        return cls(
            hosts=tuple(pattern for pattern in patterns if pattern),
            allows_private=environment.get(ALLOW_PRIVATE_VARIABLE, "") == "1",
        )

    def resolve_addresses(self, host: str, port: int | None = None) -> tuple[str, ...]:
        """Where `host` may be reached; connect to one of these and to nothing else.

        Raises `HostRefused`. One address that is refused is enough: whoever answers for the name
        chooses which comes first. Empty where any will do, and where a proxy connects, which
        resolves the name itself.
        """
        name = host.lower().rstrip(".")
        self._refuse_unlisted(name)
        if self.allows_private:
            return ()
        if self.is_proxied(name) and not _is_address(name):
            self._refuse_local_name(name)
            return ()
        found = tuple(self.resolve(name, port or _HTTPS_PORT))
        if not found:
            raise HostRefused(f"{host} has no address.")
        for address in found:
            if not self.is_public(address):
                raise HostRefused(_refusal(host, f"at {address}, which is no public address"))
        return found

    def _refuse_unlisted(self, name: str) -> None:
        if self.hosts and not any(fnmatchcase(name, pattern) for pattern in self.hosts):
            raise HostRefused(
                f"{name} is none of the hosts that files are brought from ({', '.join(self.hosts)};"
                f" {HOSTS_VARIABLE})."
            )

    def _refuse_local_name(self, name: str) -> None:
        if "." not in name or name.endswith((".local", ".internal")):
            raise HostRefused(_refusal(name, "a name of this network"))


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's, and of one machine.

    IPv4 addresses that are wrapped into IPv6 count as what they wrap.
    """
    found = ip_address(address.partition("%")[0])
    wrapped = _wrapped(found) if isinstance(found, IPv6Address) else None
    if wrapped is not None:
        return is_public(str(wrapped))
    return found.is_global and not (found.is_multicast or found.is_reserved)


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _refusal(host: str, what: str) -> str:
    return f"{host} is {what}; nothing is brought from there unless {ALLOW_PRIVATE_VARIABLE}=1 is in the environment."


def _addresses_of(host: str, port: int) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HostRefused(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_proxied(host: str) -> bool:
    proxies = getproxies()
    return bool(proxies.get("https") or proxies.get("all")) and not proxy_bypass(host)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
