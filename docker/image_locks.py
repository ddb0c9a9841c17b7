"""Writes a lock for each image: the entries of environment.lock that its extras need.

No resolver is used: mmcv-full requires packages that conflict with ours (opencv-python needs
libGL), so the packages of a lock are installed without their dependencies being resolved.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DOCKER_DIR = Path(__file__).parent
IMAGES = {
    "service": ("",),
    "worker": ("", "worker"),
    "mlflow": ("mlflow",),
}
"""The extras of pyproject.toml in each image; "" stands for the base dependencies."""

BUILDS = {
    "build-mmcv": ("ninja", "psutil", "setuptools", "wheel"),
    "build-tandem": ("editables", "hatchling"),
}
"""Packages that a build stage of the Dockerfile needs, besides those of the images."""

NOT_LOCKED = frozenset({"mmcv-full", "opencv-python", "tandem-distill"})
"""Compiled by mmcv-wheel.sh; replaced by the headless variant; this project."""


def main() -> None:
    """Write the locks, or with --check verify that they are up to date."""
    is_check = sys.argv[1:] == ["--check"]
    stale = []
    for name in (*IMAGES, *BUILDS):
        file, text = DOCKER_DIR / f"{name}.lock", build_lock(name)
        if is_check and (not file.exists() or file.read_text(encoding="utf-8") != text):
            stale.append(file.name)
        if not is_check:
            file.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"{', '.join(stale)} is out of date with environment.lock: run `make lock`.")


def build_lock(name: str) -> str:
    """The text of the lock of an image or build stage."""
    pins = read_pins(DOCKER_DIR / "environment.lock")
    requirements = get_image_requirements(name) if name in IMAGES else BUILDS[name]
    packages = resolve_dependencies(map(Requirement, requirements))
    head = f"# What {name} needs. Written by docker/lock.sh (make lock); do not edit."
    return "\n".join([head, *(pins[package] for package in sorted(packages & pins.keys())), ""])


def get_image_requirements(image: str) -> list[str]:
    """Requirements in pyproject.toml of the extras of an image."""
    project = tomllib.loads((DOCKER_DIR.parent / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    return [text for extra in IMAGES[image] for text in extras[extra]]


def read_pins(file: Path) -> dict[str, str]:
    """Entries of a lock by package name: the version, and a line for each hash."""
    entries = re.findall(r"^[^#\s].*(?:\n[ \t].*)*", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(entry.partition("==")[0]): entry for entry in entries}


def resolve_dependencies(requirements: Iterable[Requirement]) -> set[str]:
    """Names of the required packages with all their dependencies, for this platform.

    Raises `SystemExit` if the environment lacks one of them.
    """
    todo, seen, names = list(requirements), set[tuple[str, str]](), set[str]()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            names.add(name)
            todo += _requirements_of(name, extra)
    return names - NOT_LOCKED


def _requirements_of(name: str, extra: str) -> Iterator[Requirement]:
    try:
        texts = requires(name) or []
    except PackageNotFoundError:
        if name in NOT_LOCKED:
            return
        raise SystemExit(f"{name} is needed and not installed: run `make setup`.") from None
    for text in texts:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


if __name__ == "__main__":
    main()
