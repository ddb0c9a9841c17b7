"""Start and stop the stack; both operations are idempotent."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Literal

from service.adapters.home_permissions import home_umask, secure_home
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
_POLL_INTERVAL_S = 0.2
_JOBS_STOP_TIMEOUT_S = 10.0
"""A worker writes a checkpoint before it exits."""

_COMPONENT_STOP_TIMEOUT_S = 8.0


Phase = Literal[
    "starting", "ready", "already up", "elsewhere", "failed", "ending", "ended", "not running"
]


@dataclass(frozen=True)
class ComponentProgress:
    """A phase of starting or stopping a component."""

    component: ComponentName
    title: str
    phase: Phase
    seconds: float
    detail: str = ""


ProgressCallback = Callable[[ComponentProgress], None]


class ComponentState(StrEnum):
    """Whether a component runs and answers, and on which machine."""

    UP = "up"
    UNRESPONSIVE = "unresponsive"
    """Its process runs, but its API does not answer."""

    DEAD = "dead"
    """Its process was started and has exited unexpectedly."""

    DOWN = "down"
    ELSEWHERE = "elsewhere"
    """Configured on another machine; it answers."""

    UNREACHABLE = "unreachable"
    """Configured on another machine; it does not answer."""


@dataclass(frozen=True)
class ComponentStatus:
    """State of a component and of its process."""

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
    """Whether its address answers, even if `tandem up` did not start it."""


def start_stack(config: StackConfig, *, on_progress: ProgressCallback) -> None:
    """Start the components that do not run; return when all of them answer."""
    ray, mlflow, service = build_components(config)
    with _stack_lock(config):
        for component in (ray, mlflow, service):
            _require_free_port(component, on_progress)
        # The service starts last: it first looks up its runs in Ray.
        for group in ((ray, mlflow), (service,)):
            waiting = [
                start
                for component in group
                if (start := _start_component(component, config, on_progress)) is not None
            ]
            _wait_until_ready(waiting, config, on_progress)


def stop_stack(config: StackConfig, *, on_progress: ProgressCallback) -> None:
    """Stop all local components with their process trees, in reverse order."""
    with _stack_lock(config):
        for component in reversed(build_components(config)):
            _stop_component(component, on_progress)


def get_stack_status(config: StackConfig) -> tuple[ComponentStatus, ...]:
    """Check every component, in the order in which they start."""
    return tuple(_inspect(component, config) for component in build_components(config))


def read_last_lines(log: Path, count: int = LAST_LINES) -> tuple[str, ...]:
    """The last `count` lines of a log that are not empty."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip())[-count:]


@dataclass(frozen=True)
class _StartingComponent:
    component: Component
    identity: processes.ProcessIdentity
    started_at: float
    """By the monotonic clock, in seconds."""

    warning: str = ""
    """Shown to the user once the component is ready."""


def _start_component(
    component: Component, config: StackConfig, on_progress: ProgressCallback
) -> _StartingComponent | None:
    if not component.is_local:
        _require_remote(component, config, on_progress)
        return None
    identity = processes.read_pid_file(component.pid_file)
    if identity is not None and processes.find_process(identity) is not None:
        if check_health(component, config).is_up:
            on_progress(_progress(component, "already up", 0.0, component.url))
            return None
        on_progress(_progress(component, "starting", 0.0, "runs, waiting for an answer"))
        return _StartingComponent(component, identity, monotonic())
    return _spawn(component, config, on_progress)


def _require_free_port(component: Component, on_progress: ProgressCallback) -> None:
    """Stop leftovers of a dead component, and check that its port is free."""
    if (
        not component.is_local
        or processes.find_process(processes.read_pid_file(component.pid_file)) is not None
    ):
        return
    _stop_processes(component, None)
    port = component.address.port
    if not is_port_free(port, host=component.address.host):
        on_progress(_progress(component, "failed", 0.0, f"port {port} is in use"))
        raise PortInUse(
            port,
            component=component.title,
            holder=describe_port_holder(port),
            setting=component.setting,
        )


def _spawn(
    component: Component, config: StackConfig, on_progress: ProgressCallback
) -> _StartingComponent:
    on_progress(_progress(component, "starting"))
    failed_check = check_gpus(config) if component.name is ComponentName.RAY else None
    ready = prepare_component(component, config, offers_gpus=failed_check is None)
    identity = processes.spawn(
        ready.command,
        env=ready.env,
        folder=config.home,
        log=ready.log,
        umask=home_umask(config.home),
    )
    processes.write_pid_file(identity, ready.pid_file)
    return _StartingComponent(ready, identity, monotonic(), _describe_missing_gpus(failed_check))


def _describe_missing_gpus(failed_check: CheckResult | None) -> str:
    if failed_check is None:
        return ""
    return (
        f"Runs get no GPU: {failed_check.detail}. {failed_check.advice} Then `tandem down` and "
        "`tandem up`; `tandem doctor` checks the GPUs again."
    )


def _wait_until_ready(
    starts: list[_StartingComponent], config: StackConfig, on_progress: ProgressCallback
) -> None:
    waiting = list(starts)
    while waiting:
        for start in tuple(waiting):
            if _is_ready(start, config, on_progress):
                waiting.remove(start)


def _is_ready(
    start: _StartingComponent, config: StackConfig, on_progress: ProgressCallback
) -> bool:
    component, seconds = start.component, monotonic() - start.started_at
    if check_health(component, config).is_up:
        detail = f"{component.url}  {start.warning}".rstrip()
        on_progress(_progress(component, "ready", seconds, detail))
        return True
    if processes.wait_for_exit(start.identity, timeout_s=_POLL_INTERVAL_S):
        raise _report_failure(start, "ended while starting", on_progress)
    if seconds > component.start_timeout_s:
        _stop_processes(component, start.identity)
        raise _report_failure(
            start, f"did not answer within {component.start_timeout_s:.0f} s", on_progress
        )
    on_progress(_progress(component, "starting", seconds))
    return False


def _report_failure(
    start: _StartingComponent, problem: str, on_progress: ProgressCallback
) -> ComponentFailed:
    component = start.component
    on_progress(_progress(component, "failed", monotonic() - start.started_at, problem))
    component.pid_file.unlink(missing_ok=True)
    return ComponentFailed(
        component.title,
        problem=problem,
        log=component.log,
        last_lines=read_last_lines(component.log),
    )


def _stop_component(component: Component, on_progress: ProgressCallback) -> None:
    started_at = monotonic()
    identity = processes.read_pid_file(component.pid_file)
    if not processes.find_process_tree(identity, marker=component.marker):
        component.pid_file.unlink(missing_ok=True)
        on_progress(_progress(component, "not running"))
        return
    on_progress(_progress(component, "ending"))
    _stop_processes(component, identity)
    component.pid_file.unlink(missing_ok=True)
    on_progress(_progress(component, "ended", monotonic() - started_at))


def _stop_processes(component: Component, identity: processes.ProcessIdentity | None) -> None:
    """Stop jobs first, so that they write checkpoints; then the component; then kill the rest."""
    tree = processes.find_process_tree(identity, marker=component.marker)
    if identity is not None and component.name is ComponentName.RAY:
        jobs = processes.filter_other_sessions(tree, identity.pid)
        processes.terminate(jobs, timeout_s=_JOBS_STOP_TIMEOUT_S)
    root = processes.find_process(identity)
    if root is not None:
        processes.terminate([root], timeout_s=_COMPONENT_STOP_TIMEOUT_S)
    processes.kill(tree)
    processes.kill(processes.find_process_tree(None, marker=component.marker))


def _require_remote(
    component: Component, config: StackConfig, on_progress: ProgressCallback
) -> None:
    if not check_health(component, config).is_up:
        raise RemoteUnreachable(component.title, url=component.url, setting=component.setting)
    on_progress(_progress(component, "elsewhere", 0.0, component.url))


def _inspect(component: Component, config: StackConfig) -> ComponentStatus:
    identity = processes.read_pid_file(component.pid_file) if component.is_local else None
    root = processes.find_process(identity)
    health = check_health(component, config)
    tree = (
        processes.find_process_tree(identity, marker=component.marker) if root is not None else []
    )
    return ComponentStatus(
        name=component.name,
        title=component.title,
        state=_derive_state(
            component,
            has_pid_file=identity is not None,
            is_running=root is not None,
            is_up=health.is_up,
        ),
        url=component.url,
        pid=root.pid if root is not None else None,
        started_at=identity.started_at if root is not None and identity is not None else None,
        memory_bytes=processes.sum_memory_bytes(tree),
        log=component.log,
        detail=health.detail,
        is_responding=health.is_up,
    )


def _derive_state(
    component: Component, *, has_pid_file: bool, is_running: bool, is_up: bool
) -> ComponentState:
    if not component.is_local:
        return ComponentState.ELSEWHERE if is_up else ComponentState.UNREACHABLE
    if is_running:
        return ComponentState.UP if is_up else ComponentState.UNRESPONSIVE
    return ComponentState.DEAD if has_pid_file else ComponentState.DOWN


def _progress(
    component: Component, phase: Phase, seconds: float = 0.0, detail: str = ""
) -> ComponentProgress:
    return ComponentProgress(component.name, component.title, phase, seconds, detail)


@contextmanager
def _stack_lock(config: StackConfig) -> Iterator[None]:
    """Serialize concurrent `tandem up` and `tandem down`."""
    secure_home(config.home)
    folder = config.home / "stack"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
