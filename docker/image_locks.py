"""Writes what each image holds of environment.lock: what Tandem's extras need, all the way down.

A resolver is no way to do it: mmcv-full asks for packages that do not work beside ours
(opencv-python needs libGL), so everything is installed without looking at dependencies.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
IMAGES = {
    "service": ("",),
    "worker": ("", "worker"),
    "mlflow": ("mlflow",),
}
"""The extras of pyproject.toml that an image holds; "" is what Tandem needs without any."""

BUILDS = {
    "build-mmcv": ("ninja", "psutil", "setuptools", "wheel"),
    "build-tandem": ("editables", "hatchling"),
}
"""Packages that a stage of the Dockerfile needs to build something, besides what an image holds."""

NOT_LOCKED = frozenset({"mmcv-full", "opencv-python", "tandem-distill"})
"""Compiled by mmcv-wheel.sh; headless instead; ourselves."""


def main() -> None:
    """Write the locks, or with --check say whether they are as they should be."""
    is_check = sys.argv[1:] == ["--check"]
    stale = []
    for name in (*IMAGES, *BUILDS):
        file, text = HERE / f"{name}.lock", lock_of(name)
        if is_check and (not file.exists() or file.read_text(encoding="utf-8") != text):
            stale.append(file.name)
        if not is_check:
            file.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"{', '.join(stale)} is not what environment.lock gives: run `make lock`.")


def lock_of(name: str) -> str:
    """The lock of an image or of a build stage."""
    pins = pins_in(HERE / "environment.lock")
    requirements = requirements_of_image(name) if name in IMAGES else BUILDS[name]
    packages = needed(map(Requirement, requirements))
    head = f"# What {name} needs. Written by docker/lock.sh (make lock); do not edit."
    return "\n".join([head, *(pins[package] for package in sorted(packages & pins.keys())), ""])


def requirements_of_image(image: str) -> list[str]:
    """What the extras of an image ask for in pyproject.toml."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    return [text for extra in IMAGES[image] for text in extras[extra]]


def pins_in(file: Path) -> dict[str, str]:
    """Entries of a lock by the name of their package: a version, then a line for each hash."""
    entries = re.findall(r"^[^#\s].*(?:\n[ \t].*)*", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(entry.partition("==")[0]): entry for entry in entries}


def needed(asked: Iterable[Requirement]) -> set[str]:
    """Everything that is asked for and what that asks for, as far as it is for this machine.

    `SystemExit` if something is asked for that the environment does not have.
    """
    todo, seen, names = list(asked), set[tuple[str, str]](), set[str]()
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
