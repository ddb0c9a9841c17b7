"""Processes that outlive the command that started them: start, recognise, end."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MARKER_ENV = "TANDEM_STACK_PART"
"""Environment variable by which we know processes that a part of ours has started."""

_SAME_START_S = 1.0


@dataclass(frozen=True)
class ProcessIdentity:
    """A process for certain: ids are used again, an id with its start time is not."""

    pid: int
    started_at: float


def spawn(
    command: Sequence[str], *, env: Mapping[str, str], folder: Path, log: Path
) -> ProcessIdentity:
    """Starts `command` in a session of its own, in `folder`, its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    shell = shutil.which("sh") or "/bin/sh"
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        shell,
        [shell, "-c", 'cd "$0" && exec "$@"', str(folder), *command],
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return ProcessIdentity(pid, psutil.Process(pid).create_time())


def write_pid_file(identity: ProcessIdentity, file: Path) -> None:
    """Writes the pid file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(identity)) + "\n", encoding="utf-8")


def read_pid_file(file: Path) -> ProcessIdentity | None:
    """The process of a pid file; none where there is no such file or it is not one of ours."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return ProcessIdentity(int(found["pid"]), float(found["started_at"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def find_process(identity: ProcessIdentity | None) -> psutil.Process | None:
    """The process if it still runs and is the same one."""
    if identity is None:
        return None
    try:
        process = psutil.Process(identity.pid)
        is_same = abs(process.create_time() - identity.started_at) < _SAME_START_S
        if not is_same or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def wait_for_exit(identity: ProcessIdentity, *, timeout_s: float) -> bool:
    """Waits a little for the process to end; ends a zombie of ours on the way."""
    process = find_process(identity)
    if process is None:
        return True
    try:
        process.wait(timeout=timeout_s)
    except psutil.TimeoutExpired:
        return False
    return True


def find_process_tree(identity: ProcessIdentity | None, *, marker: str) -> list[psutil.Process]:
    """The process, its descendants, and all that carry `mark`, even when their parents are gone."""
    root = find_process(identity)
    found = find_marked_processes(marker)
    if root is not None:
        found += [root, *_descendants(root)]
        found += [process for process in psutil.process_iter() if _session(process) == root.pid]
    for process in tuple(found):
        found += _descendants(process)
    return list({process.pid: process for process in found if not _is_me(process)}.values())


def find_marked_processes(mark: str) -> list[psutil.Process]:
    """Processes that inherited `mark` in their environment."""
    return [process for process in psutil.process_iter() if _mark_of(process) == mark]


def terminate(processes: Iterable[psutil.Process], *, timeout_s: float) -> list[psutil.Process]:
    """Asks processes to end and waits; those that have not ended are returned."""
    asked = list(processes)
    for process in asked:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.terminate()
    return _wait(asked, timeout_s)


def kill(processes: Iterable[psutil.Process], *, timeout_s: float = 5.0) -> list[psutil.Process]:
    """Ends processes without asking; those that even then remain are returned."""
    killed = list(processes)
    for process in killed:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    return _wait(killed, timeout_s)


def filter_other_sessions(processes: Iterable[psutil.Process], root: int) -> list[psutil.Process]:
    """Those that left the session of `root`: under Ray, the commands of its jobs."""
    return [process for process in processes if _session(process) not in {root, None}]


def sum_memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Memory of all, shared pages counted once where the kernel tells."""
    return sum(_memory_of(process) for process in processes)


def _wait(processes: list[psutil.Process], patience_s: float) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, timeout=patience_s)
    return [process for process in alive if not _is_zombie(process)]


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARKER_ENV)
    except (psutil.Error, OSError):
        return None


def _is_me(process: psutil.Process) -> bool:
    return process.pid == os.getpid()


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _memory_of(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except (psutil.Error, OSError):
        return 0
    return int(getattr(full, "pss", 0) or full.uss)
