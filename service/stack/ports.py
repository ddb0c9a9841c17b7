"""Ports on this machine: parse addresses, check ports, choose and reserve free ones."""

import json
import random
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from configs.addresses import is_own_address, parse_web_address
from service.stack.errors import InvalidAddress

_PORT_RANGE = range(20000, 32000)
"""Above the ports of Ray's workers, below the ephemeral ports of Linux."""

_reserved: dict[int, int] = {}
"""Ports that this process has reserved, each with the descriptor of the socket that reserves it."""


@dataclass(frozen=True)
class Address:
    """Host and port on which a component listens."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether this machine can listen there."""
        return is_own_address(self.host)


def parse_address(url: str, *, setting: str) -> Address:
    """Parse an http address; raise `InvalidAddress` with the setting's name."""
    try:
        address = parse_web_address(url)
    except ValueError as error:
        raise InvalidAddress(url, setting=setting) from error
    return Address(address.host, address.port)


def is_port_free(port: int, *, host: str = "") -> bool:
    """Whether a server could listen on `port` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, port))
        except OSError:
            return False
    return True


def describe_port_holder(port: int) -> str:
    """Describe the process that listens on `port`, for error messages."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "another process"
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.port == port:
            return _describe_process(connection.pid)
    return "another process"


def load_or_choose_ports(file: Path, names: Iterable[str]) -> dict[str, int]:
    """Return a port for each name, and write all to `file`; a port read from it is kept if free."""
    required = tuple(names)
    ports = {
        name: port
        for name, port in _read_ports(file).items()
        if name in required and is_port_free(port) and (port in _reserved or _reserve(port))
    }
    for name in required:
        if name not in ports:
            ports[name] = choose_free_port(excluded=frozenset(ports.values()))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(ports, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return ports


def choose_free_port(*, excluded: frozenset[int] = frozenset()) -> int:
    """Choose a port without a listener, and reserve it until this process ends.

    No other process that calls this function gets the same port before the server listens on it.
    """
    # Not the global generator: with a seed two processes would choose the same ports.
    for port in random.SystemRandom().sample(_PORT_RANGE, k=200):
        if port not in excluded and is_port_free(port) and _reserve(port):
            return port
    raise OSError("none of 200 ports between 20000 and 32000 is free")


def _reserve(port: int) -> bool:
    """Reserve `port` among all processes that use this module; return False if it is reserved.

    The reservation is an abstract Unix socket: it needs no file, holds for every user in the same
    network namespace, and the kernel removes it when this process ends, however it ends. Only
    Linux has them.
    """
    if sys.platform != "linux":
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
        try:
            holder.bind(f"\0tandem-port-{port}")
        except OSError:
            return False
        _reserved[port] = holder.detach()
    return True


def _read_ports(file: Path) -> dict[str, int]:
    try:
        ports = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {str(name): int(port) for name, port in ports.items()}


def _describe_process(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return f"process {pid}"
    return f"process {pid} ({command[:80]})" if command else f"process {pid}"
