"""Is this machine fit to run Tandem? Findings, each with what to do."""

import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil

from service.domain.errors import SchemaUnknown, StoreUnreachable
from service.stack.components import Part, PartName, StackConfig, parts_of
from service.stack.lifecycle import PartState, PartStatus, stack_status
from service.stack.ports import holder_of, is_free
from service.stack.trainer import Finding, worker_findings
from service.store.schema import described

_GIB = 2**30
_DISK_GIB = 5.0
_MEMORY_GIB = 4.0
_DATABASE_ADVICE = (
    "Start it, or correct TANDEM_DATABASE_URL; without that it is an SQLite file in TANDEM_HOME."
)


def examine(config: StackConfig, *, database_url: str) -> Iterator[Finding]:
    """Every finding, the quick ones first."""
    yield python_finding(sys.version_info[:3])
    yield disk_finding(config.home)
    yield memory_finding(psutil.virtual_memory().available)
    yield cores_finding(psutil.cpu_count() or 1)
    yield database_finding(database_url)
    statuses = stack_status(config)
    for part, status in zip(parts_of(config), statuses, strict=True):
        yield port_finding(part, status)
        yield from health_findings(status)
    is_ray_here = any(part.is_ours for part in parts_of(config) if part.name is PartName.RAY)
    if is_ray_here or find_spec("torch") is not None:
        yield from worker_findings(config.bin / "tandem-worker")


def python_finding(version: tuple[int, ...]) -> Finding:
    """mmcv-full 1.7.2 is compiled for one Python."""
    return Finding(
        "python",
        ok=version[:2] == (3, 11),
        detail=".".join(map(str, version)),
        advice="Make the environment with Python 3.11: `make setup`.",
    )


def disk_finding(home: Path) -> Finding:
    """Checkpoints, MLflow's artifacts and logs need room."""
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free_gib = shutil.disk_usage(there).free / _GIB
    return Finding(
        "disk",
        ok=free_gib >= _DISK_GIB,
        detail=f"{free_gib:.0f} GiB free for {home}",
        advice=f"Free up {_DISK_GIB:.0f} GiB, or set TANDEM_HOME to a larger disk.",
    )


def memory_finding(available_bytes: int) -> Finding:
    """The stack takes about 1.5 GiB, a small run on the CPU one more."""
    available_gib = available_bytes / _GIB
    return Finding(
        "memory",
        ok=available_gib >= _MEMORY_GIB,
        detail=f"{available_gib:.1f} GiB available",
        advice=f"Close other programs: {_MEMORY_GIB:.0f} GiB are needed.",
    )


def cores_finding(num_cores: int) -> Finding:
    """One core trains, but everything else waits for it."""
    return Finding(
        "cores",
        ok=num_cores >= 2,
        detail=f"{num_cores} cores",
        advice="With one core runs train one after the other and the service answers slowly.",
    )


def database_finding(url: str) -> Finding:
    """The database answers, and no newer Tandem has been at it; its password is not shown."""
    try:
        return Finding("database", ok=True, detail=described(url))
    except (StoreUnreachable, SchemaUnknown) as error:
        return Finding("database", ok=False, detail=str(error), advice=_DATABASE_ADVICE)


def port_finding(part: Part, status: PartStatus) -> Finding:
    """The port is free, or it is ours."""
    name = f"port {part.address.port} ({part.title})"
    if not part.is_ours:
        return Finding(name, ok=True, detail=f"on another machine: {part.url}")
    if status.pid is not None:
        return Finding(name, ok=True, detail=f"ours, process {status.pid}")
    if status.answers:
        return Finding(name, ok=True, detail="answers; `tandem up` did not start it")
    if is_free(part.address.port, host=part.address.host):
        return Finding(name, ok=True, detail="free")
    return Finding(
        name,
        ok=False,
        detail=f"taken by {holder_of(part.address.port)}",
        advice=f"End that process, or choose another port with {part.setting}.",
    )


def health_findings(status: PartStatus) -> Iterator[Finding]:
    """A part that is meant to run answers; one that was never started is no fault."""
    if status.state is PartState.DOWN:
        return
    yield Finding(
        status.name,
        ok=status.state in {PartState.UP, PartState.ELSEWHERE},
        detail=f"{status.state}: {status.detail}",
        advice=f"`tandem up` starts it again; its log is {status.log}.",
    )
