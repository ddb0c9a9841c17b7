"""Proxies and certificates of every HTTP client, from the usual environment variables.

This machine, and hosts without a domain (as in a compose network), are never asked through a proxy.
"""

import ipaddress
import os
import ssl
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment, proxy_bypass

from configs.addresses import (
    WebAddress,
    bracket_host,
    is_own_host,
    is_private,
    parse_web_address,
)

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class AccessRefused(ValueError):
    """A proxy or a certificate of the environment cannot be used; the message names it."""


def bypasses_proxies(url: str, *, within_cluster: bool = False) -> bool:
    """Whether `url` is asked directly, whatever the environment says.

    `within_cluster`: addresses of private networks are, too, as Ray itself does between nodes.
    """
    host = parse_web_address(url).host
    has_no_domain = "." not in host and ":" not in host
    return has_no_domain or is_own_host(host) or (within_cluster and is_private(host))


def client_options(url: str, *, within_cluster: bool = False) -> dict[str, Any]:
    """Arguments of `httpx.Client` for requests to `url`.

    Raises `AccessRefused` for a proxy or certificates that cannot be used. httpx's own reading of
    the environment ignores REQUESTS_CA_BUNDLE and networks in NO_PROXY, and fails for
    IPv6 addresses there.
    """
    address = parse_web_address(url)
    proxy = None if bypasses_proxies(url, within_cluster=within_cluster) else _proxy(address)
    return {
        "proxy": proxy,
        "trust_env": False,
        "verify": _tls_context() if address.scheme == "https" else _empty_context(),
    }


def complete_environment(env: MutableMapping[str, str], *urls: str) -> None:
    """Set what other libraries read so that they treat `urls` as `client_options` does.

    NO_PROXY gets this machine's hosts; certificates that one of requests and OpenSSL knows are
    set for both.
    """
    excluded = env.get("no_proxy") or env.get("NO_PROXY") or ""
    names = [name.strip() for name in excluded.split(",") if name.strip()]
    direct = [host for url in urls if (host := _find_direct_host(url)) is not None]
    if "*" not in names:
        names += [host for host in (*_LOOPBACK, *direct) if host not in names]
    env["NO_PROXY"] = env["no_proxy"] = ",".join(dict.fromkeys(names))
    bundle = next((env[name] for name in _BUNDLES if env.get(name)), None)
    if bundle is not None:
        name = "SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"
        env[name] = env.get(name) or bundle
        env["REQUESTS_CA_BUNDLE"] = env.get("REQUESTS_CA_BUNDLE") or bundle


def load_certificates(path: str, *, name: str) -> ssl.SSLContext:
    """A context that trusts a file or folder of certificates; errors name the variable `name`."""
    is_folder = Path(path).is_dir()
    try:
        return ssl.create_default_context(
            cafile=None if is_folder else path, capath=path if is_folder else None
        )
    except (OSError, ssl.SSLError) as error:
        raise AccessRefused(f"{name}={path} contains no readable certificates: {error}") from error


def _find_direct_host(url: str) -> str | None:
    """The host that is asked directly; None for another one, and for what is no web address."""
    try:
        return parse_web_address(url).host if bypasses_proxies(url) else None
    except ValueError:
        return None


def _proxy(address: WebAddress) -> str | None:
    """The proxy for an address, from `<scheme>_proxy` or `all_proxy`, in both cases of letters."""
    proxies = getproxies_environment()
    url = proxies.get(address.scheme) or proxies.get("all")
    if not url or _is_excluded(address, proxies.get("no", "")):
        return None
    complete = url if "://" in url else f"http://{url}"
    scheme = complete.partition("://")[0].lower()
    if scheme not in {"http", "https"}:
        raise AccessRefused(
            f"The proxy {complete.rpartition('@')[2]} cannot be used for {address.host_and_port}: "
            f"{scheme} is not supported; set an http proxy, or add {bracket_host(address.host)} to "
            "NO_PROXY."
        )
    return complete


def _is_excluded(address: WebAddress, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host, its domain or its network."""
    if proxy_bypass(address.host_and_port):
        return True
    names = [name.strip().strip("[]") for name in no_proxy.split(",")]
    try:
        ip = ipaddress.ip_address(address.host)
    except ValueError:
        return False
    return any(ip in network for network in map(_parse_network, names) if network is not None)


def _parse_network(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        return None


def _tls_context() -> ssl.SSLContext | bool:
    """True for httpx's usual authorities."""
    name = next((name for name in _BUNDLES if os.environ.get(name)), None)
    return True if name is None else load_certificates(os.environ[name], name=name)


def _empty_context() -> ssl.SSLContext:
    """For addresses without TLS: loading the usual authorities takes longer than a request."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
