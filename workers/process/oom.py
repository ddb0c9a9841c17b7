"""What is left of an attempt whose process was killed, and what it tells of the cause.

A process that the kernel kills for lack of memory cannot say so. It leaves a mark of its start, and
the kernel counts whom it killed.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import ValidationError

from configs.protocol.failure import FailureReason
from configs.protocol.names import RunFile
from configs.spec.base import Contract

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


class StartRecord(Contract):
    """Who began an attempt, and where the kernel's count stood then."""

    host: str
    boot: str
    """The machine's start: counts begin again with it."""

    pid: int
    created: float
    """The process's start, by which it is told from a later one with its number."""

    counter: str | None
    """The file that counts; none: this machine does not say."""

    oom_kills: int


def write_start_record(run_dir: Path, *, attempt: int, rank: int = 0) -> StartRecord:
    """Write down that this process began a part of an attempt."""
    counter = find_oom_counter()
    mark = StartRecord(
        host=socket.gethostname(),
        boot=_boot_id(),
        pid=os.getpid(),
        created=psutil.Process().create_time(),
        counter=None if counter is None else str(counter),
        oom_kills=_count_in(counter),
    )
    suffix = f".rank-{rank}" if rank else ""
    file = run_dir / RunFile.LOGS / f"attempt-{attempt}{suffix}.start.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(mark.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return mark


def oom_kills_since_start(run_dir: Path, *, attempt: int) -> int:
    """Processes beside this one that the kernel killed for lack of memory since the attempt began
    here; 0 where it does not say.
    """
    return max((_growth(mark) for mark in _marks(run_dir, attempt)), default=0)


def oom_kill_cause(run_dir: Path, *, attempt: int) -> FailureReason | None:
    """Why an attempt of this host ended without a word, as far as the kernel tells."""
    return FailureReason.HOST_OUT_OF_MEMORY if _killed(run_dir, attempt) else None


def oom_kill_message(run_dir: Path, *, attempt: int) -> str | None:
    """A sentence about an attempt of this host that the kernel ended; none if it did not."""
    mark = _killed(run_dir, attempt)
    if mark is None:
        return None
    return (
        f"Attempt {attempt} was killed by the kernel for lack of memory (oom_kill rose from "
        f"{mark.oom_kills} to {mark.oom_kills + _growth(mark)})."
    )


def find_oom_counter(*, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Path | None:
    """The file in which the kernel counts this process's cgroup's victims; none: there is none."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for file in _candidates(controllers, path.lstrip("/"), cgroups):
            if _has_count(file):
                return file
    return None


def _candidates(controllers: str, path: str, cgroups: Path) -> Iterator[Path]:
    """In a container the path is often the host's, and the folder's root is the container's."""
    if controllers == "":
        yield from (cgroups / path / "memory.events", cgroups / "memory.events")
    elif "memory" in controllers.split(","):
        folder = cgroups / "memory"
        yield from (folder / path / "memory.oom_control", folder / "memory.oom_control")


def _killed(run_dir: Path, attempt: int) -> StartRecord | None:
    for mark in _marks(run_dir, attempt):
        if _growth(mark) > 0 and not _is_alive(mark):
            return mark
    return None


def _marks(run_dir: Path, attempt: int) -> Iterator[StartRecord]:
    """Those that were left on this host since it started."""
    here = (socket.gethostname(), _boot_id())
    for file in sorted((run_dir / RunFile.LOGS).glob(f"attempt-{attempt}.*start.json")):
        try:
            mark = StartRecord.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            continue
        if (mark.host, mark.boot) == here:
            yield mark


def _growth(mark: StartRecord) -> int:
    if mark.counter is None:
        return 0
    return max(0, _count_in(Path(mark.counter)) - mark.oom_kills)


def _is_alive(mark: StartRecord) -> bool:
    try:
        return psutil.Process(mark.pid).create_time() == mark.created
    except psutil.NoSuchProcess:
        return False


def _has_count(file: Path) -> bool:
    return "oom_kill" in _counts_in(file)


def _count_in(file: Path | None) -> int:
    return 0 if file is None else _counts_in(file).get("oom_kill", 0)


def _counts_in(file: Path) -> dict[str, int]:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
