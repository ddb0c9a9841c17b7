"""Starting and ending the stack; both may be asked any number of times."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Literal

from service.stack import processes
from service.stack.components import Part, PartName, StackConfig, parts_of, prepare
from service.stack.errors import NotOurs, PartFailed, PortTaken
from service.stack.health import probe
from service.stack.ports import holder_of, is_free
from service.stack.trainer import Finding, unusable_gpus

LAST_LINES = 20
_POLL_S = 0.2
_JOBS_PATIENCE_S = 10.0
"""A worker that is asked to end writes a checkpoint first."""

_PART_PATIENCE_S = 8.0


@dataclass(frozen=True)
class Step:
    """What is happening to a part, for whoever watches."""

    part: PartName
    title: str
    phase: Literal[
        "starting", "ready", "already up", "elsewhere", "failed", "ending", "ended", "not running"
    ]
    seconds: float
    detail: str = ""


Watch = Callable[[Step], None]


class PartState(StrEnum):
    """How a part is."""

    UP = "up"
    DEAF = "deaf"
    """Its process runs but its API does not answer."""

    DEAD = "dead"
    """It was started and has ended without being asked."""

    DOWN = "down"
    ELSEWHERE = "elsewhere"
    """Configured on another machine, and it answers."""

    UNREACHABLE = "unreachable"
    """Configured on another machine, and it does not answer."""


@dataclass(frozen=True)
class PartStatus:
    """A part as found."""

    name: PartName
    title: str
    state: PartState
    url: str
    pid: int | None
    started_at: float | None
    memory_bytes: int
    log: Path
    detail: str
    answers: bool = False
    """Whoever started it."""


def start_stack(config: StackConfig, *, watch: Watch) -> None:
    """Starts what is missing or dead, and returns when everything answers."""
    ray, mlflow, service = parts_of(config)
    with _alone(config):
        for part in (ray, mlflow, service):
            _require_place(part, watch)
        # The service comes last: its first act is to look for its runs in Ray.
        for group in ((ray, mlflow), (service,)):
            waiting = [
                start for part in group if (start := _begin(part, config, watch)) is not None
            ]
            _await(waiting, config, watch)


def stop_stack(config: StackConfig, *, watch: Watch) -> None:
    """Ends everything that is ours, the last started first; nothing remains."""
    with _alone(config):
        for part in reversed(parts_of(config)):
            _finish(part, watch)


def stack_status(config: StackConfig) -> tuple[PartStatus, ...]:
    """How every part is."""
    return tuple(_status(part, config) for part in parts_of(config))


def last_lines(log: Path, count: int = LAST_LINES) -> tuple[str, ...]:
    """The end of a log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip())[-count:]


@dataclass(frozen=True)
class _Start:
    part: Part
    identity: processes.Identity
    at: float
    warning: str = ""
    """What whoever starts the stack has to know of this part."""


def _begin(part: Part, config: StackConfig, watch: Watch) -> _Start | None:
    if not part.is_ours:
        _require_elsewhere(part, config, watch)
        return None
    identity = processes.recall(part.pid_file)
    if identity is not None and processes.living(identity) is not None:
        if probe(part, config).is_up:
            watch(Step(part.name, part.title, "already up", 0.0, part.url))
            return None
        watch(Step(part.name, part.title, "starting", 0.0, "runs, waiting for an answer"))
        return _Start(part, identity, monotonic())
    return _spawn(part, config, watch)


def _require_place(part: Part, watch: Watch) -> None:
    """Before anything starts: what a dead part left behind is ended, and its port is free."""
    if not part.is_ours or processes.living(processes.recall(part.pid_file)) is not None:
        return
    _end_family(part, None)
    port = part.address.port
    if not is_free(port, host=part.address.host):
        watch(Step(part.name, part.title, "failed", 0.0, f"port {port} is taken"))
        raise PortTaken(port, part=part.title, holder=holder_of(port), setting=part.setting)


def _spawn(part: Part, config: StackConfig, watch: Watch) -> _Start:
    watch(Step(part.name, part.title, "starting", 0.0))
    fault = unusable_gpus(config) if part.name is PartName.RAY else None
    ready = prepare(part, config, offers_gpus=fault is None)
    identity = processes.spawn(ready.command, env=ready.env, folder=config.home, log=ready.log)
    processes.remember(identity, ready.pid_file)
    return _Start(ready, identity, monotonic(), _without_gpus(fault))


def _without_gpus(fault: Finding | None) -> str:
    if fault is None:
        return ""
    return (
        f"Runs get no GPU: {fault.detail}. {fault.advice} Then `tandem down` and `tandem up`; "
        "`tandem doctor` examines the GPUs again."
    )


def _await(starts: list[_Start], config: StackConfig, watch: Watch) -> None:
    waiting = list(starts)
    while waiting:
        for start in tuple(waiting):
            if _is_ready(start, config, watch):
                waiting.remove(start)


def _is_ready(start: _Start, config: StackConfig, watch: Watch) -> bool:
    part, seconds = start.part, monotonic() - start.at
    if probe(part, config).is_up:
        detail = f"{part.url}  {start.warning}".rstrip()
        watch(Step(part.name, part.title, "ready", seconds, detail))
        return True
    if processes.has_ended(start.identity, within_s=_POLL_S):
        raise _failed(start, "ended while starting", watch)
    if seconds > part.patience_s:
        _end_family(part, start.identity)
        raise _failed(start, f"did not answer within {part.patience_s:.0f} s", watch)
    watch(Step(part.name, part.title, "starting", seconds))
    return False


def _failed(start: _Start, what: str, watch: Watch) -> PartFailed:
    part = start.part
    watch(Step(part.name, part.title, "failed", monotonic() - start.at, what))
    part.pid_file.unlink(missing_ok=True)
    return PartFailed(part.title, what=what, log=part.log, last_lines=last_lines(part.log))


def _finish(part: Part, watch: Watch) -> None:
    began = monotonic()
    identity = processes.recall(part.pid_file)
    if not processes.family_of(identity, mark=part.mark):
        part.pid_file.unlink(missing_ok=True)
        watch(Step(part.name, part.title, "not running", 0.0))
        return
    watch(Step(part.name, part.title, "ending", 0.0))
    _end_family(part, identity)
    part.pid_file.unlink(missing_ok=True)
    watch(Step(part.name, part.title, "ended", monotonic() - began))


def _end_family(part: Part, identity: processes.Identity | None) -> None:
    """Jobs first, so that they can write a checkpoint; then the part; then whatever remains."""
    family = processes.family_of(identity, mark=part.mark)
    if identity is not None and part.name is PartName.RAY:
        jobs = processes.in_other_sessions(family, identity.pid)
        processes.end(jobs, patience_s=_JOBS_PATIENCE_S)
    root = processes.living(identity)
    if root is not None:
        processes.end([root], patience_s=_PART_PATIENCE_S)
    processes.kill(family)
    processes.kill(processes.family_of(None, mark=part.mark))


def _require_elsewhere(part: Part, config: StackConfig, watch: Watch) -> None:
    if not probe(part, config).is_up:
        raise NotOurs(part.title, url=part.url, setting=part.setting)
    watch(Step(part.name, part.title, "elsewhere", 0.0, part.url))


def _status(part: Part, config: StackConfig) -> PartStatus:
    identity = processes.recall(part.pid_file) if part.is_ours else None
    root = processes.living(identity)
    health = probe(part, config)
    family = processes.family_of(identity, mark=part.mark) if root is not None else []
    return PartStatus(
        name=part.name,
        title=part.title,
        state=_state(
            part, is_remembered=identity is not None, runs=root is not None, is_up=health.is_up
        ),
        url=part.url,
        pid=root.pid if root is not None else None,
        started_at=identity.started_at if root is not None and identity is not None else None,
        memory_bytes=processes.memory_bytes(family),
        log=part.log,
        detail=health.detail,
        answers=health.is_up,
    )


def _state(part: Part, *, is_remembered: bool, runs: bool, is_up: bool) -> PartState:
    if not part.is_ours:
        return PartState.ELSEWHERE if is_up else PartState.UNREACHABLE
    if runs:
        return PartState.UP if is_up else PartState.DEAF
    return PartState.DEAD if is_remembered else PartState.DOWN


@contextmanager
def _alone(config: StackConfig) -> Iterator[None]:
    """Two `tandem up` at once take turns."""
    folder = config.home / "stack"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
