"""Allowed and refused hosts of downloads, with the many notations of an address."""

import pytest

from workers.teachers.allowed_hosts import AllowedHosts, HostRefused, is_public


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "fec0::1",
        "feff::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_an_address_of_a_network_of_ones_own_is_not(address: str) -> None:
    assert not is_public(address)


def make_allowed_hosts(*addresses: str, is_proxied: bool = False, **facts: object) -> AllowedHosts:
    return AllowedHosts(
        resolve=lambda host, port: addresses,
        is_proxied=lambda host: is_proxied,
        **facts,  # type: ignore[arg-type]
    )


def test_a_public_host_is_reached_at_the_addresses_that_it_has() -> None:
    gate = make_allowed_hosts("93.184.216.34", "2606:4700::1111")

    assert gate.resolve_addresses("example.org") == ("93.184.216.34", "2606:4700::1111")


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(HostRefused, match=r"example\.org is at 10\.0\.0\.1"):
        make_allowed_hosts("93.184.216.34", "10.0.0.1").resolve_addresses("example.org")


def test_a_host_without_an_address_is_refused() -> None:
    with pytest.raises(HostRefused, match="no address"):
        make_allowed_hosts().resolve_addresses("example.org")


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(HostRefused, match="cannot be resolved"):
        AllowedHosts(is_proxied=lambda host: False).resolve_addresses("no-such-host.invalid")


@pytest.mark.parametrize("host", ["example.org", "EXAMPLE.org.", "files.example.org"])
def test_a_listed_host_is_reached_however_it_is_written(host: str) -> None:
    gate = make_allowed_hosts("93.184.216.34", hosts=("example.org", "*.example.org"))

    assert gate.resolve_addresses(host)


@pytest.mark.parametrize("host", ["example.com", "notexample.org", "example.org.evil.com"])
def test_a_host_that_is_not_listed_is_refused(host: str) -> None:
    gate = make_allowed_hosts("93.184.216.34", hosts=("example.org", "*.example.org"))

    with pytest.raises(HostRefused, match="TANDEM_SOURCE_HOSTS"):
        gate.resolve_addresses(host)


@pytest.mark.parametrize("host", ["localhost", "db", "metadata.google.internal", "127.0.0.1"])
def test_private_addresses_are_refused_behind_a_proxy(host: str) -> None:
    with pytest.raises(HostRefused):
        make_allowed_hosts("127.0.0.1", is_proxied=True).resolve_addresses(host)


def test_a_proxy_finds_public_hosts_by_itself() -> None:
    assert make_allowed_hosts(is_proxied=True).resolve_addresses("example.org") == ()


def test_the_environment_lists_hosts_and_allows_private_ones() -> None:
    environment = {
        "TANDEM_SOURCE_HOSTS": " Example.org, *.s3.example ,",
        "TANDEM_ALLOW_PRIVATE_SOURCES": "1",
    }

    gate = AllowedHosts.from_environment(environment)

    assert gate.hosts == ("example.org", "*.s3.example")
    assert gate.allows_private
    assert not AllowedHosts.from_environment({}).allows_private
    with pytest.raises(HostRefused, match="Downloads from localhost are not allowed"):
        gate.resolve_addresses("localhost")
