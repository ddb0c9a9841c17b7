"""Checks of `tandem doctor`: this machine, the database and the components of the stack."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import psutil

from configs.addresses import read_credentials, remove_credentials
from configs.mlflow_access import MlflowVariable
from service.adapters.home_permissions import is_exposed
from service.domain.errors.systems import DatabaseUnreachable, SchemaUnknown
from service.stack.components import Component, ComponentName, StackConfig, build_components
from service.stack.lifecycle import ComponentState, ComponentStatus, get_stack_status
from service.stack.ports import describe_port_holder, is_port_free
from service.stack.trainer import CheckResult, run_worker_doctor

_GIB = 2**30
_DISK_GIB = 5.0
_MEMORY_GIB = 4.0
_DATABASE_ADVICE = (
    "Start it, or correct TANDEM_DATABASE_URL; by default it is an SQLite file in TANDEM_HOME."
)

_NODES_UNCHECKED = CheckResult(
    "worker environment",
    ok=True,
    detail="not checked: Ray's nodes are other machines or containers",
    advice="Run `tandem-worker doctor` on a node; the containers run it when they start.",
    skipped=True,
)


def run_checks(
    config: StackConfig, *, database_url: str, service_url: str, reuses_proof: bool = True
) -> Iterator[CheckResult]:
    """Run all checks; those of the worker environment run meanwhile in a process of their own.

    `service_url`: where workers reach the service. `reuses_proof`: do not test mmcv's operators if
    no library has changed since they passed.
    """
    statuses = get_stack_status(config)
    with ThreadPoolExecutor(max_workers=1) as pool:
        worker_results = None
        ray, *_ = build_components(config)
        if ray.is_local or find_spec("torch") is not None:
            worker_results = pool.submit(
                run_worker_doctor,
                config.bin / "tandem-worker",
                options=(
                    *(["--reuse-proof"] if reuses_proof else []),
                    *_connection_options(config, statuses, service_url=service_url),
                ),
                env={**(ray.env if ray.is_local else config.env), **_mlflow_login(config)},
            )
        yield from _check_service(config, statuses, database_url=database_url)
        yield from (_NODES_UNCHECKED,) if worker_results is None else worker_results.result()


def _connection_options(
    config: StackConfig, statuses: Sequence[ComponentStatus], *, service_url: str
) -> Iterator[str]:
    """The addresses that a run would report to, of those components that answer."""
    responding = {status.name for status in statuses if status.is_responding}
    if ComponentName.SERVICE in responding:
        yield from ("--service-url", service_url)
    if ComponentName.MLFLOW in responding:
        yield from ("--mlflow-url", remove_credentials(config.mlflow_url))


def _mlflow_login(config: StackConfig) -> dict[str, str]:
    """MLflow's variables for the user name and password of its address, if it has them.

    Other users see command lines, but not the environment.
    """
    credentials = read_credentials(config.mlflow_url)
    names = (MlflowVariable.USERNAME, MlflowVariable.PASSWORD)
    return {} if credentials is None else dict(zip(names, credentials, strict=True))


def _check_service(
    config: StackConfig, statuses: Sequence[ComponentStatus], *, database_url: str
) -> Iterator[CheckResult]:
    yield check_python(sys.version_info[:3])
    yield check_disk(config.home)
    yield check_permissions(config.home)
    yield check_memory(psutil.virtual_memory().available)
    yield check_cores(psutil.cpu_count() or 1)
    yield check_database(database_url)
    for component, status in zip(build_components(config), statuses, strict=True):
        yield check_port(component, status)
        yield from check_component(status)
    yield from list_unstarted(statuses)


def check_python(version: tuple[int, ...]) -> CheckResult:
    """Require Python 3.11: mmcv-full 1.7.2 is compiled for it."""
    return CheckResult(
        "python",
        ok=version[:2] == (3, 11),
        detail=".".join(map(str, version)),
        advice="Make the environment with Python 3.11: `make setup`.",
    )


def check_disk(home: Path) -> CheckResult:
    """Require free space for checkpoints, MLflow's artifacts and logs."""
    existing_folder = next(folder for folder in (home, *home.parents) if folder.exists())
    free_gib = shutil.disk_usage(existing_folder).free / _GIB
    return CheckResult(
        "disk",
        ok=free_gib >= _DISK_GIB,
        detail=f"{free_gib:.0f} GiB free for {home}",
        advice=f"Free up {_DISK_GIB:.0f} GiB, or set TANDEM_HOME to a larger disk.",
    )


def check_permissions(home: Path) -> CheckResult:
    """Only this user may read database, secrets and runs, or a group that shares them (setgid)."""
    return CheckResult(
        "permissions",
        ok=not is_exposed(home),
        detail=f"other users {'can' if is_exposed(home) else 'cannot'} open {home}",
        advice=f"Run `chmod -R go= {home}`. docs/operate.md says how to share it with workers.",
    )


def check_memory(available_bytes: int) -> CheckResult:
    """The stack takes about 1.5 GiB, a small run on the CPU 1 GiB more."""
    available_gib = available_bytes / _GIB
    return CheckResult(
        "memory",
        ok=available_gib >= _MEMORY_GIB,
        detail=f"{available_gib:.1f} GiB available",
        advice=f"Close other programs: {_MEMORY_GIB:.0f} GiB are needed.",
    )


def check_cores(num_cores: int) -> CheckResult:
    """Training takes one core; the service and its clients need another one."""
    return CheckResult(
        "cores",
        ok=num_cores >= 2,
        detail=f"{num_cores} cores",
        advice="With one core, only one run trains at a time and the service responds slowly.",
    )


def check_database(url: str) -> CheckResult:
    """Check that the database answers with a known schema; its password is not shown."""
    from service.store.schema import describe_database

    try:
        return CheckResult("database", ok=True, detail=describe_database(url))
    except (DatabaseUnreachable, SchemaUnknown) as error:
        return CheckResult("database", ok=False, detail=str(error), advice=_DATABASE_ADVICE)


def check_port(component: Component, status: ComponentStatus) -> CheckResult:
    """Check that the component's port is free, or used by the component itself."""
    name = f"port {component.address.port} ({component.title})"
    if not component.is_local:
        return CheckResult(name, ok=True, detail=f"on another machine: {component.url}")
    if status.pid is not None:
        return CheckResult(name, ok=True, detail=f"used by the stack, process {status.pid}")
    if status.is_responding:
        return CheckResult(name, ok=True, detail="answers, but was not started by `tandem up`")
    if is_port_free(component.address.port, host=component.address.host):
        return CheckResult(name, ok=True, detail="free")
    return CheckResult(
        name,
        ok=False,
        detail=f"in use by {describe_port_holder(component.address.port)}",
        advice=f"End that process, or choose another port with {component.setting}.",
    )


def list_unstarted(statuses: Sequence[ComponentStatus]) -> Iterator[CheckResult]:
    """Say which components were not checked, because they do not run."""
    titles = [
        status.title
        for status in statuses
        if status.state is ComponentState.DOWN and not status.is_responding
    ]
    if titles:
        yield CheckResult(
            "stack",
            ok=True,
            detail=f"not started, so not checked whether they answer: {', '.join(titles)}",
            advice="`tandem up` starts them; then run `tandem doctor` again.",
            skipped=True,
        )


def check_component(status: ComponentStatus) -> Iterator[CheckResult]:
    """Check that a started component answers."""
    if status.state is ComponentState.DOWN:
        return
    yield CheckResult(
        status.name,
        ok=status.state in {ComponentState.UP, ComponentState.ELSEWHERE},
        detail=f"{status.state}: {status.detail}",
        advice=f"`tandem up` starts it again; its log is {status.log}.",
    )
