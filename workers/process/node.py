"""Which processes of this node belong to which attempt, and how they are ended for good.

An attempt is known by its submission id. Its processes inherit that in their environment; what
was started without it is known by its own command line, and its children by it. A process is a
number and a start time here (psutil compares both), so a number that was given away is never hit.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from configs.protocol.names import Env

_SUBMISSION_ID = re.compile(r"(?P<run_id>.+)-a(?P<attempt>[0-9]+)")
_OF_ATTEMPTS = ("train", "evaluate", "export")
_PROGRAM = "tandem-worker"
_TO_LEAVE_S = 10.0
_TO_DIE_S = 30.0
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class TerminationResult:
    """What became of processes that were to end."""

    ended: tuple[int, ...]
    unkillable: tuple[int, ...]
    """Those that even SIGKILL did not end: the kernel holds them."""


def submission_id(run_id: str, attempt: int) -> str:
    """How the cluster, and the processes' environment, call an attempt."""
    return f"{run_id}-a{attempt}"


def filter_earlier_attempts(attempts: Iterable[str], *, run_id: str, attempt: int) -> list[str]:
    """Those of the same run with a lower number."""
    return [
        name
        for name in attempts
        if (match := _SUBMISSION_ID.fullmatch(name))
        and match["run_id"] == run_id
        and int(match["attempt"]) < attempt
    ]


def find_attempt_processes() -> dict[str, list[psutil.Process]]:
    """This node's processes of attempts, by submission id; never this one nor its ancestors."""
    everybody = list(psutil.process_iter())
    ours = {process.pid: name for process in everybody if (name := _attempt_of(process))}
    for process in everybody:
        if process.pid not in ours and (name := _inherited(process, ours)):
            ours[process.pid] = name
    found: dict[str, list[psutil.Process]] = {}
    spared = {os.getpid(), *(ancestor.pid for ancestor in psutil.Process().parents())}
    for process in everybody:
        if process.pid in ours and process.pid not in spared:
            found.setdefault(ours[process.pid], []).append(process)
    return found


def terminate_processes(
    processes: Sequence[psutil.Process], *, grace_period_s: float = _TO_LEAVE_S
) -> TerminationResult:
    """End processes: they may leave by themselves (SIGTERM) for a while, and are killed then.

    Loaders, which are forks of a process that is to end, are not asked: it takes them along, and
    would take the death of one for a fault. What is stopped goes on first, or would hear nothing.
    """
    words = {process.pid: _words_of(process) for process in processes}
    asked = [p for p in processes if words[p.pid] != words.get(_parent_of(p), ())]
    _send(processes, signal.SIGCONT)
    _send(asked, signal.SIGTERM)
    _alive_after(asked, grace_period_s)
    _send(processes, signal.SIGKILL)
    left = tuple(process.pid for process in _alive_after(processes, _TO_DIE_S))
    return TerminationResult(tuple(p.pid for p in processes if p.pid not in left), left)


def _attempt_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(Env.ATTEMPT) or _named_in(process.cmdline())
    except (psutil.Error, OSError):
        return None


def _named_in(words: Sequence[str]) -> str | None:
    """The attempt that a `tandem-worker` command line names."""
    at = next((i for i, word in enumerate(words[:3]) if Path(word).name == _PROGRAM), None)
    if at is None or not set(words[at + 1 : at + 2]) & set(_OF_ATTEMPTS):
        return None
    options = dict(_options(words[at + 2 :]))
    run_id = options.get("--run-id")
    return submission_id(run_id, int(options.get("--attempt", "1"))) if run_id else None


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`--name value` and `--name=value`, numbers where numbers belong."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        value = value if equals else following
        if name != "--attempt" or value.isdigit():
            yield name, value


def _inherited(process: psutil.Process, ours: Mapping[int, str]) -> str | None:
    try:
        ancestors = process.parents()
    except psutil.Error:
        return None
    return next((ours[one.pid] for one in ancestors if one.pid in ours), None)


def _words_of(process: psutil.Process) -> tuple[str, ...]:
    try:
        return tuple(process.cmdline())
    except psutil.Error:
        return ()


def _parent_of(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            process.send_signal(number)


def _alive_after(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    deadline_s = time.monotonic() + timeout_s
    while alive := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline_s:
            break
        time.sleep(_LOOK_EVERY_S)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    """A zombie holds nothing any more; whoever started it has to collect it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
