"""Whether a run that resumes has the distillation methods that it began with."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.protocol.names import RunFile
from configs.spec.distillation import MethodSpec
from configs.spec.installed_methods import MethodRelease
from workers.distillation.methods.catalog import list_releases
from workers.distillation.methods.registry import find_entry_point
from workers.distillation.methods.release import is_own
from workers.errors import MethodMismatch


def check_releases(run_dir: Path, specs: Iterable[MethodSpec]) -> Iterator[str]:
    """Compare methods with those of the attempt before, as the run's `environment.json` has them.

    Yields a note for each of Tandem's own methods of which only the digest differs: it is that of
    all losses, so most versions of Tandem have another one, and the method's version says whether
    numbers do. Raises `MethodMismatch` for another version, and for other code of another package.
    Methods that no earlier attempt has recorded are not compared.
    """
    recorded = _read_methods(run_dir / RunFile.ENVIRONMENT)
    for name, release in list_releases(specs).items():
        if name not in recorded:
            continue
        before = MethodRelease.model_validate({**recorded[name], "needs": release.needs})
        if before.has_same_code(release):
            continue
        if before.version != release.version or not is_own(find_entry_point(name)):
            raise MethodMismatch(_describe_change(name, before=before, now=release))
        yield (
            f"The code of {name} differs from that of the attempt before (digest "
            f"{before.digest[:12]}, now {release.digest[:12]}); its version is still "
            f"{release.version}, so its numbers are the same."
        )


def _read_methods(file: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # earlier versions may leave a part of it
        return {}
    methods: Mapping[str, Any] = document.get("methods", {})
    return methods


def _describe_change(name: str, *, before: MethodRelease, now: MethodRelease) -> str:
    return (
        f"The checkpoint in this folder is of version {before.version} of {name} (digest "
        f"{before.digest[:12]}), and this worker has version {now.version} (digest "
        f"{now.digest[:12]}), which computes other numbers: install the former again to continue "
        "the run (environment.json in its folder has all versions), or launch it as a new run."
    )
