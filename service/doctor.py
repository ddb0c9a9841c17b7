"""Is this machine fit to run Tandem? Findings, each with what to do."""

import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil

from service.domain.errors import DatabaseUnreachable, SchemaUnknown
from service.stack.components import Component, ComponentName, StackConfig, build_components
from service.stack.lifecycle import ComponentState, ComponentStatus, get_stack_status
from service.stack.ports import describe_port_holder, is_port_free
from service.stack.trainer import CheckResult, run_worker_doctor
from service.store.schema import describe_database

_GIB = 2**30
_DISK_GIB = 5.0
_MEMORY_GIB = 4.0
_DATABASE_ADVICE = (
    "Start it, or correct TANDEM_DATABASE_URL; without that it is an SQLite file in TANDEM_HOME."
)


def run_checks(config: StackConfig, *, database_url: str) -> Iterator[CheckResult]:
    """Every finding, the quick ones first."""
    yield check_python(sys.version_info[:3])
    yield check_disk(config.home)
    yield check_memory(psutil.virtual_memory().available)
    yield check_cores(psutil.cpu_count() or 1)
    yield check_database(database_url)
    statuses = get_stack_status(config)
    for part, status in zip(build_components(config), statuses, strict=True):
        yield check_port(part, status)
        yield from check_component(status)
    is_ray_here = any(
        part.is_local for part in build_components(config) if part.name is ComponentName.RAY
    )
    if is_ray_here or find_spec("torch") is not None:
        yield from run_worker_doctor(config.bin / "tandem-worker")


def check_python(version: tuple[int, ...]) -> CheckResult:
    """mmcv-full 1.7.2 is compiled for one Python."""
    return CheckResult(
        "python",
        ok=version[:2] == (3, 11),
        detail=".".join(map(str, version)),
        advice="Make the environment with Python 3.11: `make setup`.",
    )


def check_disk(home: Path) -> CheckResult:
    """Checkpoints, MLflow's artifacts and logs need room."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free_gib = shutil.disk_usage(there).free / _GIB
    return CheckResult(
        "disk",
        ok=free_gib >= _DISK_GIB,
        detail=f"{free_gib:.0f} GiB free for {home}",
        advice=f"Free up {_DISK_GIB:.0f} GiB, or set TANDEM_HOME to a larger disk.",
    )


def check_memory(available_bytes: int) -> CheckResult:
    """The stack takes about 1.5 GiB, a small run on the CPU one more."""
    available_gib = available_bytes / _GIB
    return CheckResult(
        "memory",
        ok=available_gib >= _MEMORY_GIB,
        detail=f"{available_gib:.1f} GiB available",
        advice=f"Close other programs: {_MEMORY_GIB:.0f} GiB are needed.",
    )


def check_cores(num_cores: int) -> CheckResult:
    """One core trains, but everything else waits for it."""
    return CheckResult(
        "cores",
        ok=num_cores >= 2,
        detail=f"{num_cores} cores",
        advice="With one core runs train one after the other and the service answers slowly.",
    )


def check_database(url: str) -> CheckResult:
    """The database answers, and no newer Tandem has been at it; its password is not shown."""
    try:
        return CheckResult("database", ok=True, detail=describe_database(url))
    except (DatabaseUnreachable, SchemaUnknown) as error:
        return CheckResult("database", ok=False, detail=str(error), advice=_DATABASE_ADVICE)


def check_port(part: Component, status: ComponentStatus) -> CheckResult:
    """The port is free, or it is ours."""
    name = f"port {part.address.port} ({part.title})"
    if not part.is_local:
        return CheckResult(name, ok=True, detail=f"on another machine: {part.url}")
    if status.pid is not None:
        return CheckResult(name, ok=True, detail=f"ours, process {status.pid}")
    if status.is_responding:
        return CheckResult(name, ok=True, detail="answers; `tandem up` did not start it")
    if is_port_free(part.address.port, host=part.address.host):
        return CheckResult(name, ok=True, detail="free")
    return CheckResult(
        name,
        ok=False,
        detail=f"taken by {describe_port_holder(part.address.port)}",
        advice=f"End that process, or choose another port with {part.setting}.",
    )


def check_component(status: ComponentStatus) -> Iterator[CheckResult]:
    """A part that is meant to run answers; one that was never started is no fault."""
    if status.state is ComponentState.DOWN:
        return
    yield CheckResult(
        status.name,
        ok=status.state in {ComponentState.UP, ComponentState.ELSEWHERE},
        detail=f"{status.state}: {status.detail}",
        advice=f"`tandem up` starts it again; its log is {status.log}.",
    )
