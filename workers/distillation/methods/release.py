"""The release of a method: what tells whether two environments compute the same."""

import hashlib
from functools import lru_cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

from configs.spec.distillation import MethodTraits
from configs.spec.installed_methods import MethodRelease

_OWN_PACKAGE = "workers.distillation"


def is_own(point: EntryPoint) -> bool:
    """Whether a method is Tandem's own, so that the service knows its fields."""
    return point.module.startswith(f"{_OWN_PACKAGE}.")


def read_release(point: EntryPoint, traits: MethodTraits) -> MethodRelease:
    """The version that a method declares, and the digest of its package's code.

    Our own methods all have the digest of `workers.distillation`, where their losses are.
    """
    return MethodRelease(
        version=traits.version,
        digest=digest_code(_OWN_PACKAGE if is_own(point) else point.module),
        needs=tuple(sorted(traits.needs)),
        needs_labels=traits.needs_labels,
    )


@lru_cache
def digest_code(module: str) -> str:
    """SHA-256 of the Python files of the folder that holds a module, and of its subfolders.

    Of a module without a package, only its own file counts: its folder is `site-packages`.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    file = Path(spec.origin)
    is_packaged = "." in module or spec.submodule_search_locations is not None
    files = sorted(file.parent.rglob("*.py")) if is_packaged else [file]
    content = hashlib.sha256()
    for path in files:
        code = path.read_bytes()
        name = path.relative_to(file.parent).as_posix().encode()
        content.update(b"%d %s %d " % (len(name), name, len(code)) + code)
    return content.hexdigest()
