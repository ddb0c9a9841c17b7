"""Addresses of servers and databases: read as browsers and SQLAlchemy read them."""

import ipaddress
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from pydantic_core import Url

_PRIVATE_NETWORKS = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
            *("fc00::/7", "fe80::/10"),
        ),
    )
)


@dataclass(frozen=True)
class WebAddress:
    """The parts of an http address; its path is left out."""

    scheme: str
    host: str
    """A name in ASCII, or an IP address without brackets."""

    port: int
    """80 or 443 where the address has none."""

    @property
    def host_and_port(self) -> str:
        """As in a URL: an IPv6 address is in brackets."""
        return f"{bracket_host(self.host)}:{self.port}"


def parse_web_address(url: str) -> WebAddress:
    """Parse an address that begins with http:// or https://; raises `ValueError` for others."""
    try:
        parts = Url(url.strip())
    except ValueError as error:
        raise ValueError(f"{url} is not a web address") from error
    if parts.scheme not in {"http", "https"} or not parts.host or not parts.port:
        raise ValueError(f"{url} does not begin with http:// or https://")
    return WebAddress(parts.scheme, parts.host.strip("[]"), parts.port)


def remove_credentials(url: str) -> str:
    """The address without a user name and password, for pages that others see."""
    scheme, separator, location = url.partition("://")
    authority, slash, path = location.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def read_credentials(url: str) -> tuple[str, str] | None:
    """User name and password of an address, decoded; None if it has none."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return unquote(parts.username), unquote(parts.password or "")


def bracket_host(host: str) -> str:
    """The host as it is written before a port."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host of this name or address."""
    address = _parse_ip(host)
    if address is None:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    return address.is_loopback


def is_private(host: str) -> bool:
    """Whether a host is an IP address of a private network."""
    address = _parse_ip(host)
    return address is not None and any(address in network for network in _PRIVATE_NETWORKS)


def is_own_address(host: str) -> bool:
    """Whether this machine can listen there: on its loopback, or an address of its own."""
    address = _parse_ip(host)
    if is_loopback(host) or (address is not None and address.is_unspecified):
        return True
    if address is None:
        return False
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def is_own_host(host: str) -> bool:
    """Whether a host is this machine, by an address of its own or by its name."""
    return is_own_address(host) or host.lower() == socket.gethostname().lower()


def sqlite_url(path: Path) -> str:
    """The address of an SQLite database, as SQLAlchemy reads it; the path may have any character.

    A bare `?` would begin the address's options, and the file would be another one.
    """
    return f"sqlite:///{quote(str(path), safe='/ ')}"


def _parse_ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
