"""Detects that the kernel has killed a process of an attempt for lack of memory.

Such a process cannot report it. Each process records the kernel's OOM kill counter at its start,
and the next attempt on the same host compares.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import ValidationError

from configs.protocol.names import RunFile
from configs.spec.base import Contract

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


class StartRecord(Contract):
    """The process that started an attempt, and the kernel's OOM kill counter at that time."""

    host: str
    boot: str
    """The machine's boot id; counters restart at a boot."""

    pid: int
    created: float
    """Start time of the process, seconds since the epoch, which tells it from a reused pid."""

    counter: str | None
    """The file of the counter; None if the machine has none."""

    oom_kills: int


def write_start_record(run_dir: Path, *, attempt: int, rank: int = 0) -> StartRecord:
    """Write this process's start record of an attempt."""
    counter = find_oom_counter()
    record = StartRecord(
        host=socket.gethostname(),
        boot=_boot_id(),
        pid=os.getpid(),
        created=psutil.Process().create_time(),
        counter=None if counter is None else str(counter),
        oom_kills=_read_count(counter),
    )
    suffix = f".rank-{rank}" if rank else ""
    file = run_dir / RunFile.LOGS / f"attempt-{attempt}{suffix}.start.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record


def oom_kills_since_start(run_dir: Path, *, attempt: int) -> int:
    """OOM kills in this cgroup since the attempt started on this host; 0 without a counter."""
    return max((_count_new_kills(record) for record in _read_records(run_dir, attempt)), default=0)


def oom_kill_message(run_dir: Path, *, attempt: int) -> str | None:
    """A message for people; None if the kernel has not killed the attempt on this host."""
    record = _find_killed(run_dir, attempt)
    if record is None:
        return None
    return (
        f"Attempt {attempt} was killed by the kernel for lack of memory (oom_kill rose from "
        f"{record.oom_kills} to {record.oom_kills + _count_new_kills(record)})."
    )


def find_oom_counter(*, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Path | None:
    """The file with the OOM kill counter of this process's cgroup; None if there is none."""
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
    """Files to try: in a container, `path` is often the host's, so the root is tried, too."""
    if controllers == "":
        yield from (cgroups / path / "memory.events", cgroups / "memory.events")
    elif "memory" in controllers.split(","):
        folder = cgroups / "memory"
        yield from (folder / path / "memory.oom_control", folder / "memory.oom_control")


def _find_killed(run_dir: Path, attempt: int) -> StartRecord | None:
    for record in _read_records(run_dir, attempt):
        if _count_new_kills(record) > 0 and not _is_alive(record):
            return record
    return None


def _read_records(run_dir: Path, attempt: int) -> Iterator[StartRecord]:
    """Start records that were written on this host since it booted."""
    current = (socket.gethostname(), _boot_id())
    for file in sorted((run_dir / RunFile.LOGS).glob(f"attempt-{attempt}.*start.json")):
        try:
            record = StartRecord.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            continue
        if (record.host, record.boot) == current:
            yield record


def _count_new_kills(record: StartRecord) -> int:
    if record.counter is None:
        return 0
    return max(0, _read_count(Path(record.counter)) - record.oom_kills)


def _is_alive(record: StartRecord) -> bool:
    try:
        return psutil.Process(record.pid).create_time() == record.created
    except psutil.NoSuchProcess:
        return False


def _has_count(file: Path) -> bool:
    return "oom_kill" in _read_counts(file)


def _read_count(file: Path | None) -> int:
    return 0 if file is None else _read_counts(file).get("oom_kill", 0)


def _read_counts(file: Path) -> dict[str, int]:
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
