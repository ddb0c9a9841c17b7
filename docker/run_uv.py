#!/usr/bin/env python3
"""Runs uv in the environment of this interpreter, with pip's settings on this machine.

Usage: PYTHON run_uv.py ARGUMENTS...

uv does not read pip's configuration. An index, a proxy or a certificate that is configured for pip,
in a file or as PIP_*, is passed to uv in environment variables. Variables of uv that are set
already take precedence. pip's constraints are ignored, because a lock fixes all versions.
"""

import ast
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("ALL_PROXY", "all_proxy"),
}
"""For each setting of pip, uv's variable and the aliases of that variable."""

SEPARATORS = {"UV_FIND_LINKS": ","}
"""Separators of lists in variables; a space if not listed."""

SECTIONS = ("global", "install", ":env:")
"""Sections of pip's configuration; a later one overrides an earlier one."""


def main() -> None:
    """Replace this process by uv, with its settings in the environment."""
    uv = Path(sys.executable).with_name("uv")
    settings = read_pip_settings()
    arguments = [str(uv), *sys.argv[1:]]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        arguments.append("--no-index")  # the only setting without a variable
    environment = {**os.environ, **uv_variables(settings, os.environ), "VIRTUAL_ENV": sys.prefix}
    if "UV_LINK_MODE" not in environment and not can_hardlink(cache_folder(environment)):
        environment["UV_LINK_MODE"] = "copy"
    os.execve(uv, arguments, environment)


def read_pip_settings() -> dict[str, str]:
    """pip's settings by name, as `pip install` reads them from files and PIP_*."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return parse_settings(listing)


def parse_settings(listing: str) -> dict[str, str]:
    """The settings in the output of `pip config list`, which has lines `section.name='value'`."""
    settings: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listing.splitlines():
        key, is_setting, value = line.partition("=")
        section, _, name = key.partition(".")
        if is_setting and section in settings:
            settings[section][name] = str(ast.literal_eval(value))
    return {name: value for section in SECTIONS for name, value in settings[section].items()}


def uv_variables(settings: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Translate pip's settings into uv's variables, except those that `environment` has."""
    variables: dict[str, str] = {}
    for setting, names in VARIABLES.items():
        if settings.get(setting) and not any(name in environment for name in names):
            separator = SEPARATORS.get(names[0], " ")
            variables[names[0]] = separator.join(settings[setting].split())
    if "UV_INDEX" in variables:
        # As pip does: a release may be in any index. Dependency confusion, which uv's name for this
        # warns of, is not possible, because packages are verified by the hashes of a lock.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        # pip trusts the system's certificates; uv, by default, only those it ships.
        variables["UV_SYSTEM_CERTS"] = "1"
    return {name: value for name, value in variables.items() if name not in environment}


def cache_folder(environment: Mapping[str, str]) -> Path:
    """The folder of uv's cache."""
    home = Path(environment.get("HOME") or Path.home())
    caches = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return Path(environment.get("UV_CACHE_DIR") or caches / "uv").absolute()


def can_hardlink(cache: Path) -> bool:
    """Whether cache and environment are on the same file system; otherwise uv would warn."""
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return existing.stat().st_dev == Path(sys.prefix).stat().st_dev


if __name__ == "__main__":
    main()
