"""Remembers that mmcv's operators passed their test, until something changes that it depends on."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from configs.atomic_files import write_atomically
from configs.spec.base import Contract, UtcDatetime
from workers.machine.driver import driver_version
from workers.machine.finding import MachineFinding

PROOF_FILE = Path(sys.prefix) / ".tandem-proof.json"
PACKAGES = ("torch", "mmcv-full", "mmdet", "numpy")

_SETUP_STAMP = Path(sys.prefix) / ".tandem-setup"
_LIBRARY = re.compile(r" (/.+\.so[.\d]*)(?: \(deleted\))?$", re.MULTILINE)
"""A line of /proc/self/maps with a compiled library."""

_PROCESSOR = re.compile(r"^(?:model name|flags|Features)\s*:.*", re.MULTILINE)
_CPUINFO_BYTES = 8192
"""More than the part of one core in /proc/cpuinfo; to write those of 200 takes the kernel long."""

_OWN_PACKAGES = ("workers", "configs", "service", "tandem")
_TESTED_BY = "workers.machine."


class OperatorProof(Contract):
    """Results of a test that passed, and what they depend on."""

    checked_at: UtcDatetime
    circumstances: dict[str, str]
    files: dict[str, tuple[int, int]]
    """Size in bytes and time of the last change in ns of every file that was loaded, by path."""

    findings: tuple[MachineFinding, ...]
    cuda: str | None
    """The CUDA version that torch was built for, as "13.0"."""

    def is_valid(self, circumstances: Mapping[str, str]) -> bool:
        """Whether the circumstances are the same and no file has changed."""
        if self.circumstances != circumstances:
            return False
        try:
            return all(_signature(path) == expected for path, expected in self.files.items())
        except OSError:
            return False


def describe_circumstances(root: Path = Path("/")) -> dict[str, str]:
    """What the results depend on apart from files; imports neither torch nor mmcv."""
    return {
        "python": sys.version,
        "sys.path": os.pathsep.join(sys.path),
        "processor": _describe_processor(root),
        "driver": driver_version(root) or "",
        "setup": _SETUP_STAMP.read_text(encoding="utf-8") if _SETUP_STAMP.exists() else "",
        **{name: os.environ.get(name, "") for name in ("LD_LIBRARY_PATH", "LD_PRELOAD")},
        **{name: _find_version(name) for name in PACKAGES},
    }


def read_proof(file: Path, circumstances: Mapping[str, str]) -> OperatorProof | None:
    """Read a proof; None if it is missing, unreadable, or no longer valid."""
    try:
        proof = OperatorProof.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None
    return proof if proof.is_valid(circumstances) else None


def write_proof(
    file: Path,
    findings: tuple[MachineFinding, ...],
    *,
    circumstances: Mapping[str, str],
    cuda: str | None,
) -> None:
    """Remember findings of this process; only where its environment can be written."""
    # An image's root, or another user's environment: the test runs each time.
    with suppress(OSError):
        proof = OperatorProof(
            checked_at=datetime.now(UTC),
            circumstances=dict(circumstances),
            files={path: _signature(path) for path in sorted(set(_list_loaded_files()))},
            findings=findings,
            cuda=cuda,
        )
        write_atomically(file, proof.model_dump_json(), mode=0o600, durable=False)


def forget_proof(file: Path) -> None:
    """Remove a proof, if there is one that can be removed."""
    with suppress(OSError):
        file.unlink(missing_ok=True)


def _describe_processor(root: Path) -> str:
    """Model and instruction set, by which torch's libraries choose their code."""
    try:
        with (root / "proc/cpuinfo").open("rb") as file:
            text = file.read(_CPUINFO_BYTES).decode(errors="replace")
    except OSError:
        return ""
    first_core = text.partition("\n\n")[0]
    return "\n".join(_PROCESSOR.findall(first_core))


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _list_loaded_files() -> Iterator[str]:
    """Paths of all libraries and modules of this process, of Tandem's only those of the test."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    yield from _LIBRARY.findall(maps)
    for name, module in sys.modules.copy().items():
        path = getattr(module, "__dict__", {}).get("__file__")
        is_own = name.partition(".")[0] in _OWN_PACKAGES and not name.startswith(_TESTED_BY)
        if isinstance(path, str) and path.startswith("/") and not is_own:
            yield path


def _signature(path: str) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns
