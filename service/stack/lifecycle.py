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
from service.stack.components import (
    Component,
    ComponentName,
    StackConfig,
    build_components,
    prepare_component,
)
from service.stack.errors import ComponentFailed, PortInUse, RemoteUnreachable
from service.stack.health import check_health
from service.stack.ports import describe_port_holder, is_port_free
from service.stack.trainer import CheckResult, check_gpus

LAST_LINES = 20
_POLL_S = 0.2
_JOBS_PATIENCE_S = 10.0
"""A worker that is asked to end writes a checkpoint first."""

_PART_PATIENCE_S = 8.0


@dataclass(frozen=True)
class ComponentProgress:
    """What is happening to a part, for whoever watches."""

    component: ComponentName
    title: str
    phase: Literal[
        "starting", "ready", "already up", "elsewhere", "failed", "ending", "ended", "not running"
    ]
    seconds: float
    detail: str = ""


ProgressCallback = Callable[[ComponentProgress], None]


class ComponentState(StrEnum):
    """How a part is."""

    UP = "up"
    UNRESPONSIVE = "unresponsive"
    """Its process runs but its API does not answer."""

    DEAD = "dead"
    """It was started and has ended without being asked."""

    DOWN = "down"
    ELSEWHERE = "elsewhere"
    """Configured on another machine, and it answers."""

    UNREACHABLE = "unreachable"
    """Configured on another machine, and it does not answer."""


@dataclass(frozen=True)
class ComponentStatus:
    """A part as found."""

    name: ComponentName
    title: str
    state: ComponentState
    url: str
    pid: int | None
    started_at: float | None
    memory_bytes: int
    log: Path
    detail: str
    is_responding: bool = False
    """Whoever started it."""


def start_stack(config: StackConfig, *, on_progress: ProgressCallback) -> None:
    """Starts what is missing or dead, and returns when everything answers."""
    ray, mlflow, service = build_components(config)
    with _alone(config):
        for part in (ray, mlflow, service):
            _require_place(part, on_progress)
        # The service comes last: its first act is to look for its runs in Ray.
        for group in ((ray, mlflow), (service,)):
            waiting = [
                start for part in group if (start := _begin(part, config, on_progress)) is not None
            ]
            _await(waiting, config, on_progress)


def stop_stack(config: StackConfig, *, on_progress: ProgressCallback) -> None:
    """Ends everything that is ours, the last started first; nothing remains."""
    with _alone(config):
        for part in reversed(build_components(config)):
            _finish(part, on_progress)


def get_stack_status(config: StackConfig) -> tuple[ComponentStatus, ...]:
    """How every part is."""
    return tuple(_status(part, config) for part in build_components(config))


def read_last_lines(log: Path, count: int = LAST_LINES) -> tuple[str, ...]:
    """The end of a log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip())[-count:]


@dataclass(frozen=True)
class _Start:
    part: Component
    identity: processes.ProcessIdentity
    at: float
    warning: str = ""
    """What whoever starts the stack has to know of this part."""


def _begin(part: Component, config: StackConfig, watch: ProgressCallback) -> _Start | None:
    if not part.is_local:
        _require_elsewhere(part, config, watch)
        return None
    identity = processes.read_pid_file(part.pid_file)
    if identity is not None and processes.find_process(identity) is not None:
        if check_health(part, config).is_up:
            watch(ComponentProgress(part.name, part.title, "already up", 0.0, part.url))
            return None
        watch(
            ComponentProgress(part.name, part.title, "starting", 0.0, "runs, waiting for an answer")
        )
        return _Start(part, identity, monotonic())
    return _spawn(part, config, watch)


def _require_place(part: Component, watch: ProgressCallback) -> None:
    """Before anything starts: what a dead part left behind is ended, and its port is free."""
    if (
        not part.is_local
        or processes.find_process(processes.read_pid_file(part.pid_file)) is not None
    ):
        return
    _end_family(part, None)
    port = part.address.port
    if not is_port_free(port, host=part.address.host):
        watch(ComponentProgress(part.name, part.title, "failed", 0.0, f"port {port} is taken"))
        raise PortInUse(
            port, component=part.title, holder=describe_port_holder(port), setting=part.setting
        )


def _spawn(part: Component, config: StackConfig, watch: ProgressCallback) -> _Start:
    watch(ComponentProgress(part.name, part.title, "starting", 0.0))
    fault = check_gpus(config) if part.name is ComponentName.RAY else None
    ready = prepare_component(part, config, offers_gpus=fault is None)
    identity = processes.spawn(ready.command, env=ready.env, folder=config.home, log=ready.log)
    processes.write_pid_file(identity, ready.pid_file)
    return _Start(ready, identity, monotonic(), _without_gpus(fault))


def _without_gpus(fault: CheckResult | None) -> str:
    if fault is None:
        return ""
    return (
        f"Runs get no GPU: {fault.detail}. {fault.advice} Then `tandem down` and `tandem up`; "
        "`tandem doctor` examines the GPUs again."
    )


def _await(starts: list[_Start], config: StackConfig, watch: ProgressCallback) -> None:
    waiting = list(starts)
    while waiting:
        for start in tuple(waiting):
            if _is_ready(start, config, watch):
                waiting.remove(start)


def _is_ready(start: _Start, config: StackConfig, watch: ProgressCallback) -> bool:
    part, seconds = start.part, monotonic() - start.at
    if check_health(part, config).is_up:
        detail = f"{part.url}  {start.warning}".rstrip()
        watch(ComponentProgress(part.name, part.title, "ready", seconds, detail))
        return True
    if processes.wait_for_exit(start.identity, timeout_s=_POLL_S):
        raise _failed(start, "ended while starting", watch)
    if seconds > part.start_timeout_s:
        _end_family(part, start.identity)
        raise _failed(start, f"did not answer within {part.start_timeout_s:.0f} s", watch)
    watch(ComponentProgress(part.name, part.title, "starting", seconds))
    return False


def _failed(start: _Start, what: str, watch: ProgressCallback) -> ComponentFailed:
    part = start.part
    watch(ComponentProgress(part.name, part.title, "failed", monotonic() - start.at, what))
    part.pid_file.unlink(missing_ok=True)
    return ComponentFailed(
        part.title, problem=what, log=part.log, last_lines=read_last_lines(part.log)
    )


def _finish(part: Component, watch: ProgressCallback) -> None:
    began = monotonic()
    identity = processes.read_pid_file(part.pid_file)
    if not processes.find_process_tree(identity, marker=part.marker):
        part.pid_file.unlink(missing_ok=True)
        watch(ComponentProgress(part.name, part.title, "not running", 0.0))
        return
    watch(ComponentProgress(part.name, part.title, "ending", 0.0))
    _end_family(part, identity)
    part.pid_file.unlink(missing_ok=True)
    watch(ComponentProgress(part.name, part.title, "ended", monotonic() - began))


def _end_family(part: Component, identity: processes.ProcessIdentity | None) -> None:
    """Jobs first, so that they can write a checkpoint; then the part; then whatever remains."""
    family = processes.find_process_tree(identity, marker=part.marker)
    if identity is not None and part.name is ComponentName.RAY:
        jobs = processes.filter_other_sessions(family, identity.pid)
        processes.terminate(jobs, timeout_s=_JOBS_PATIENCE_S)
    root = processes.find_process(identity)
    if root is not None:
        processes.terminate([root], timeout_s=_PART_PATIENCE_S)
    processes.kill(family)
    processes.kill(processes.find_process_tree(None, marker=part.marker))


def _require_elsewhere(part: Component, config: StackConfig, watch: ProgressCallback) -> None:
    if not check_health(part, config).is_up:
        raise RemoteUnreachable(part.title, url=part.url, setting=part.setting)
    watch(ComponentProgress(part.name, part.title, "elsewhere", 0.0, part.url))


def _status(part: Component, config: StackConfig) -> ComponentStatus:
    identity = processes.read_pid_file(part.pid_file) if part.is_local else None
    root = processes.find_process(identity)
    health = check_health(part, config)
    family = processes.find_process_tree(identity, marker=part.marker) if root is not None else []
    return ComponentStatus(
        name=part.name,
        title=part.title,
        state=_state(
            part, is_remembered=identity is not None, runs=root is not None, is_up=health.is_up
        ),
        url=part.url,
        pid=root.pid if root is not None else None,
        started_at=identity.started_at if root is not None and identity is not None else None,
        memory_bytes=processes.sum_memory_bytes(family),
        log=part.log,
        detail=health.detail,
        is_responding=health.is_up,
    )


def _state(part: Component, *, is_remembered: bool, runs: bool, is_up: bool) -> ComponentState:
    if not part.is_local:
        return ComponentState.ELSEWHERE if is_up else ComponentState.UNREACHABLE
    if runs:
        return ComponentState.UP if is_up else ComponentState.UNRESPONSIVE
    return ComponentState.DEAD if is_remembered else ComponentState.DOWN


@contextmanager
def _alone(config: StackConfig) -> Iterator[None]:
    """Two `tandem up` at once take turns."""
    folder = config.home / "stack"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
