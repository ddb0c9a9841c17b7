"""Start, find and terminate processes that outlive the command that started them."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MARKER_ENV = "TANDEM_STACK_COMPONENT"
"""Environment variable that marks all processes of a component; they inherit it."""

_START_TIME_TOLERANCE_S = 1.0


@dataclass(frozen=True)
class ProcessIdentity:
    """A process id with its start time: ids are reused, the pair is not."""

    pid: int
    started_at: float


def spawn(
    command: Sequence[str], *, env: Mapping[str, str], folder: Path, log: Path, umask: int = 0o077
) -> ProcessIdentity:
    """Start `command` in a new session, in `folder`; append its output to `log`.

    `umask`: which rights the files that it creates do not have.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shell = shutil.which("sh") or "/bin/sh"
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        shell,
        [shell, "-c", f'umask {umask:03o} && cd "$0" && exec "$@"', str(folder), *command],
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
    """Write pid and start time as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(identity)) + "\n", encoding="utf-8")


def read_pid_file(file: Path) -> ProcessIdentity | None:
    """Read a pid file; None if it does not exist or is malformed."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return ProcessIdentity(int(document["pid"]), float(document["started_at"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def find_process(identity: ProcessIdentity | None) -> psutil.Process | None:
    """Return the process; None if it has ended or its pid belongs to another process now."""
    if identity is None:
        return None
    try:
        process = psutil.Process(identity.pid)
        is_same = abs(process.create_time() - identity.started_at) < _START_TIME_TOLERANCE_S
        if not is_same or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def wait_for_exit(identity: ProcessIdentity, *, timeout_s: float) -> bool:
    """Wait for the process to exit, and reap it if it is a child of this one."""
    process = find_process(identity)
    if process is None:
        return True
    try:
        process.wait(timeout=timeout_s)
    except psutil.TimeoutExpired:
        return False
    return True


def find_process_tree(identity: ProcessIdentity | None, *, marker: str) -> list[psutil.Process]:
    """Return the process, its session and descendants, and all processes with `marker`."""
    root = find_process(identity)
    processes = find_marked_processes(marker)
    if root is not None:
        processes += [root, *_descendants(root)]
        processes += [process for process in psutil.process_iter() if _session(process) == root.pid]
    for process in tuple(processes):
        processes += _descendants(process)
    return list(
        {process.pid: process for process in processes if not _is_this_process(process)}.values()
    )


def find_marked_processes(marker: str) -> list[psutil.Process]:
    """Processes that inherited `marker` in their environment."""
    return [process for process in psutil.process_iter() if _read_marker(process) == marker]


def terminate(processes: Iterable[psutil.Process], *, timeout_s: float) -> list[psutil.Process]:
    """Send SIGTERM and wait; return the processes that still run."""
    terminated = list(processes)
    for process in terminated:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.terminate()
    return _wait(terminated, timeout_s)


def kill(processes: Iterable[psutil.Process], *, timeout_s: float = 5.0) -> list[psutil.Process]:
    """Send SIGKILL and wait; return the processes that still run."""
    killed = list(processes)
    for process in killed:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    return _wait(killed, timeout_s)


def filter_other_sessions(processes: Iterable[psutil.Process], root: int) -> list[psutil.Process]:
    """Return processes outside the session of `root`: below Ray, the commands of its jobs."""
    return [process for process in processes if _session(process) not in {root, None}]


def sum_memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Sum the memory of processes; shared pages count once if the kernel reports PSS."""
    return sum(_measure_memory(process) for process in processes)


def _wait(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
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


def _read_marker(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARKER_ENV)
    except (psutil.Error, OSError):
        return None


def _is_this_process(process: psutil.Process) -> bool:
    return process.pid == os.getpid()


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _measure_memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except (psutil.Error, OSError):
        return 0
    return int(getattr(full, "pss", 0) or full.uss)
