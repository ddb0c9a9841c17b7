"""Finds the processes of attempts on this node, and terminates them.

Processes inherit the submission id of their attempt in their environment. One that was started
without it is identified by its command line, and so are its children. psutil compares start times,
so a pid that was reused is never signaled.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import psutil

from configs.protocol.names import Env
from configs.spec.base import Task

_SUBMISSION_ID = re.compile(r"(?P<run_id>.+)-a(?P<attempt>[0-9]+)")
_JOB_COMMANDS: tuple[str, ...] = get_args(Task)
_PACK_COMMAND = "train-pack"
_PROGRAM = "tandem-worker"
_GRACE_PERIOD_S = 10.0
_KILL_TIMEOUT_S = 30.0
_POLL_INTERVAL_S = 0.1


@dataclass(frozen=True)
class TerminationResult:
    """Pids of processes that were to be terminated."""

    ended: tuple[int, ...]
    unkillable: tuple[int, ...]
    """Not ended even by SIGKILL, because they wait inside of the kernel."""


def submission_id(run_id: str, attempt: int) -> str:
    """The id of an attempt's job in Ray, and in the environment of its processes."""
    return f"{run_id}-a{attempt}"


def filter_earlier_attempts(attempts: Iterable[str], *, run_id: str, attempt: int) -> list[str]:
    """Submission ids of the same run with a lower attempt number."""
    return [
        name
        for name in attempts
        if (match := _SUBMISSION_ID.fullmatch(name))
        and match["run_id"] == run_id
        and int(match["attempt"]) < attempt
    ]


def find_attempt_processes() -> dict[str, list[psutil.Process]]:
    """This node's processes of attempts, by submission id, without this one and its ancestors."""
    processes = list(psutil.process_iter())
    attempts = {process.pid: name for process in processes if (name := _find_attempt(process))}
    for process in processes:
        if process.pid not in attempts and (name := _inherit_attempt(process, attempts)):
            attempts[process.pid] = name
    by_attempt: dict[str, list[psutil.Process]] = {}
    excluded = {os.getpid(), *(ancestor.pid for ancestor in psutil.Process().parents())}
    for process in processes:
        if process.pid in attempts and process.pid not in excluded:
            by_attempt.setdefault(attempts[process.pid], []).append(process)
    return by_attempt


def terminate_processes(
    processes: Sequence[psutil.Process], *, grace_period_s: float = _GRACE_PERIOD_S
) -> TerminationResult:
    """Send SIGTERM, and SIGKILL to those that have not ended after the grace period.

    Data loaders, which are forks of such a process, get no SIGTERM: they end with it, and it would
    fail if they ended first. Stopped processes are continued first, so that they receive SIGTERM.
    """
    command_lines = {process.pid: _command_line(process) for process in processes}
    parents = [
        process
        for process in processes
        if command_lines[process.pid] != command_lines.get(_parent_pid(process), ())
    ]
    _send(processes, signal.SIGCONT)
    _send(parents, signal.SIGTERM)
    _wait_until_ended(parents, grace_period_s)
    _send(processes, signal.SIGKILL)
    unkillable = tuple(process.pid for process in _wait_until_ended(processes, _KILL_TIMEOUT_S))
    ended = tuple(process.pid for process in processes if process.pid not in unkillable)
    return TerminationResult(ended, unkillable)


def _find_attempt(process: psutil.Process) -> str | None:
    """The submission id in the environment of a process, or else in its command line."""
    try:
        return process.environ().get(Env.ATTEMPT) or _parse_attempt(process.cmdline())
    except (psutil.Error, OSError):
        return None


def _parse_attempt(arguments: Sequence[str]) -> str | None:
    """The attempt that a `tandem-worker` command line names; None for other commands."""
    index = next(
        (i for i, argument in enumerate(arguments[:3]) if Path(argument).name == _PROGRAM), None
    )
    if index is None or len(arguments) < index + 3:
        return None
    command, *parameters = arguments[index + 1 :]
    if command == _PACK_COMMAND:
        return Path(parameters[0]).stem  # the job's file is named by its id
    if command not in _JOB_COMMANDS:
        return None
    options = dict(_parse_options(parameters))
    run_id = options.get("--run-id")
    return submission_id(run_id, int(options.get("--attempt", "1"))) if run_id else None


def _parse_options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`--name value` and `--name=value`; an attempt that is not a number is left out."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        value = value if equals else following
        if name != "--attempt" or value.isdigit():
            yield name, value


def _inherit_attempt(process: psutil.Process, attempts: Mapping[int, str]) -> str | None:
    """The attempt of the nearest ancestor that has one; `attempts` are submission ids by pid."""
    try:
        ancestors = process.parents()
    except psutil.Error:
        return None
    return next((attempts[parent.pid] for parent in ancestors if parent.pid in attempts), None)


def _command_line(process: psutil.Process) -> tuple[str, ...]:
    try:
        return tuple(process.cmdline())
    except psutil.Error:
        return ()


def _parent_pid(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            process.send_signal(number)


def _wait_until_ended(
    processes: Sequence[psutil.Process], timeout_s: float
) -> list[psutil.Process]:
    """Returns the processes that are still alive after the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while alive := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline_s:
            break
        time.sleep(_POLL_INTERVAL_S)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    """A zombie counts as ended: it holds no resources, and only its parent can reap it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
