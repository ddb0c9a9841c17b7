#!/usr/bin/env python3
"""Runs uv for the environment of this interpreter, with the settings that pip has on this machine.

PYTHON run_uv.py ARGUMENTS...

uv reads none of pip's configuration. Where an index, a proxy or a company's certificate is set for
pip, in a file or as PIP_*, it is handed to uv in the variables that uv knows. Variables of uv that
are set already stay as they are. pip's constraints are left out: a lock leaves no choice.
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
"""uv's variable for each setting of pip, then other names of that variable."""

SEPARATORS = {"UV_FIND_LINKS": ","}
"""Between several values, if it is not a space."""

SECTIONS = ("global", "install", ":env:")
"""Sections of pip's configuration; a later one overrides an earlier one."""


def main() -> None:
    """Replace this process by uv."""
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
    """pip's settings by name, as `pip install` would take them from files and PIP_*."""
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


def uv_variables(settings: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv that say what `settings` of pip say, without those that are `given`."""
    variables: dict[str, str] = {}
    for setting, names in VARIABLES.items():
        if settings.get(setting) and not any(name in given for name in names):
            separator = SEPARATORS.get(names[0], " ")
            variables[names[0]] = separator.join(settings[setting].split())
    if "UV_INDEX" in variables:
        # As pip does: a release may be in any index. What is installed has the hash of a lock, so
        # the danger that uv's name warns of (a package of the same name elsewhere) is none.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        # pip trusts what the system trusts; uv, on its own, only what it brings along.
        variables["UV_SYSTEM_CERTS"] = "1"
    return {name: value for name, value in variables.items() if name not in given}


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where uv keeps what it downloaded."""
    home = Path(environment.get("HOME") or Path.home())
    caches = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return Path(environment.get("UV_CACHE_DIR") or caches / "uv").absolute()


def can_hardlink(cache: Path) -> bool:
    """Whether the cache and this environment are on one file system; uv warns if they are not."""
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return existing.stat().st_dev == Path(sys.prefix).stat().st_dev


if __name__ == "__main__":
    main()
