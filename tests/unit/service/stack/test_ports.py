"""Ports of the stack: addresses, free ports and reservations."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import psutil
import pytest

from service.stack.errors import InvalidAddress
from service.stack.ports import (
    Address,
    choose_free_port,
    describe_port_holder,
    is_port_free,
    load_or_choose_ports,
    parse_address,
)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_an_address_is_read_from_a_url() -> None:
    assert parse_address("http://127.0.0.1:8265", setting="X") == Address("127.0.0.1", 8265)


@pytest.mark.parametrize("url", ["127.0.0.1:8265", "http://h:99999", "ftp://h:1", ""])
def test_an_invalid_address_names_the_setting(url: str) -> None:
    with pytest.raises(InvalidAddress) as exc_info:
        parse_address(url, setting="TANDEM_RAY_URL")

    assert "TANDEM_RAY_URL" in exc_info.value.message


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("localhost", True),
        ("0.0.0.0", True),
        ("::", True),
        ("198.51.100.7", False),
        ("ray", False),
    ],
)
def test_an_address_is_local_if_this_machine_can_listen_on_it(host: str, is_local: bool) -> None:
    assert Address(host, 1).is_local is is_local


def test_a_taken_port_is_not_free_and_its_holder_is_named(taken_port: int) -> None:
    assert not is_port_free(taken_port, host="127.0.0.1")
    assert str(os.getpid()) in describe_port_holder(taken_port)


def test_a_chosen_port_is_free_and_not_excluded() -> None:
    port = choose_free_port()

    assert is_port_free(port)
    assert choose_free_port(excluded=frozenset({port})) != port


def test_a_port_is_chosen_once_even_by_processes_with_the_same_seed() -> None:
    chosen = []
    for _ in range(2):
        random.seed(0)
        chosen.append(choose_free_port())

    assert chosen[0] != chosen[1]


def test_a_port_that_another_process_has_chosen_is_reserved_until_that_process_ends(
    tmp_path: Path,
) -> None:
    file = tmp_path / "ports.json"
    choose = (
        "from service.stack.ports import choose_free_port as choose; "
        "print(choose(), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", choose], stdin=PIPE, stdout=PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        port = int(other.stdout.readline())
        file.write_text(f'{{"gcs": {port}}}')
        assert is_port_free(port)
        assert load_or_choose_ports(file, ("gcs",))["gcs"] != port
        other.communicate("\n")

    file.write_text(f'{{"gcs": {port}}}')
    assert load_or_choose_ports(file, ("gcs",))["gcs"] == port


def test_ports_are_read_from_the_file(tmp_path: Path) -> None:
    first = load_or_choose_ports(tmp_path / "deep" / "ports.json", ("gcs", "agent"))

    assert load_or_choose_ports(tmp_path / "deep" / "ports.json", ("gcs", "agent")) == first
    assert len(set(first.values())) == 2


def test_a_port_that_was_taken_is_replaced_and_the_others_stay(
    tmp_path: Path, taken_port: int
) -> None:
    file = tmp_path / "ports.json"
    free = choose_free_port()
    file.write_text(f'{{"gcs": {taken_port}, "agent": {free}}}')

    ports = load_or_choose_ports(file, ("gcs", "agent"))

    assert ports["agent"] == free
    assert ports["gcs"] != taken_port


def test_a_broken_file_of_ports_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    file.write_text("{")

    assert set(load_or_choose_ports(file, ("gcs",))) == {"gcs"}


def test_an_address_of_a_network_card_is_local() -> None:
    cards = psutil.net_if_addrs().values()
    own = {
        family_address.address
        for card in cards
        for family_address in card
        if family_address.family is socket.AF_INET
    }

    assert all(Address(address, 1).is_local for address in own)
