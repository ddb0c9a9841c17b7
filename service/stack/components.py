"""The components of the stack: the command, address and environment of each."""

import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path

from configs.addresses import bracket_host
from configs.atomic_files import write_atomically
from configs.http_access import complete_environment
from service.adapters.home_permissions import secure_home
from service.stack.environment import select_for_mlflow, select_for_ray, select_for_service
from service.stack.errors import ForeignFolder
from service.stack.ports import Address, load_or_choose_ports, parse_address
from service.stack.processes import MARKER_ENV

OBJECT_STORE_BYTES = 100 * 2**20
"""Close to the minimum that Ray accepts: Tandem passes no data through the object store."""

RAY_TEMP_ROOT = Path("/tmp")

_NO_DEVICES = frozenset({"", "-1"})
"""Values of CUDA_VISIBLE_DEVICES that hide every GPU; Ray counts one GPU for "-1"."""


class ComponentName(StrEnum):
    """The components, in the order in which they start."""

    RAY = "ray"
    MLFLOW = "mlflow"
    SERVICE = "service"


@dataclass(frozen=True)
class StackConfig:
    """Folders, addresses and environment of the stack; `service.cli` fills it from settings."""

    home: Path
    host: str
    port: int
    ray_url: str
    mlflow_url: str
    bin: Path
    """The folder of this environment's commands."""

    env: Mapping[str, str] = field(repr=False)
    """The environment of the command; each component inherits a part of it."""

    job_environment: tuple[str, ...] = ()
    """Names of variables that Ray and its jobs inherit in addition to the usual ones."""

    token_file: Path | None = None
    """The user's file with Ray's token; if None, the stack creates one below `home`."""

    ray_token: str | None = field(default=None, repr=False)
    """The token of a Ray cluster on another machine."""

    @property
    def hides_gpus(self) -> bool:
        """Whether CUDA_VISIBLE_DEVICES hides all GPUs of this machine."""
        return self.env.get("CUDA_VISIBLE_DEVICES") in _NO_DEVICES

    @property
    def url(self) -> str:
        """Address of the service."""
        return f"http://{bracket_host(self.host)}:{self.port}"

    @property
    def has_remote_mlflow(self) -> bool:
        """Whether MLflow is on another machine."""
        return not parse_address(self.mlflow_url, setting="TANDEM_MLFLOW_URL").is_local

    @property
    def ray_token_file(self) -> Path:
        """The file with the token that every client of Ray must send."""
        return self.token_file or self.home / "ray" / "token"


@dataclass(frozen=True)
class Component:
    """One process of the stack."""

    name: ComponentName
    title: str
    url: str
    address: Address
    setting: str
    """The setting that holds the address."""

    health_path: str
    """A path that answers 200 only if the component can do real work."""

    start_timeout_s: float
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    pid_file: Path
    log: Path
    marker: str
    """Value of the environment variable that all processes of the component inherit."""

    @property
    def is_local(self) -> bool:
        """Whether the component runs on this machine."""
        return self.address.is_local


def build_components(config: StackConfig) -> tuple[Component, ...]:
    """All components, in the order in which they start."""
    return (_build_ray(config), _build_mlflow(config), _build_service(config))


def prepare_component(
    component: Component, config: StackConfig, *, offers_gpus: bool = True
) -> Component:
    """Create folders, token and port assignments; return the component with its final command.

    `offers_gpus`: whether Ray may assign this machine's GPUs to runs.
    """
    secure_home(config.home)
    if component.name is ComponentName.MLFLOW:
        (config.home / "mlflow" / "artifacts").mkdir(parents=True, exist_ok=True)
    if component.name is not ComponentName.RAY:
        return component
    (config.home / "ray").mkdir(parents=True, exist_ok=True)
    _ensure_token(config.ray_token_file)
    _ensure_own_folder(ray_temp_dir(config.home).parent)
    ports = load_or_choose_ports(config.home / "stack" / "ports.json", _RAY_PORTS)
    return _build_ray(config, ports=ports, offers_gpus=offers_gpus and not config.hides_gpus)


def ray_temp_dir(home: Path) -> Path:
    """Ray's temporary folder: short, because paths of its sockets are limited to 107 characters.

    Ray gives everybody the right to write to it, so it is in a folder of this user alone.
    """
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:10]
    return RAY_TEMP_ROOT / f"tandem-ray-{digest}" / "ray"


_RAY_PORTS = {
    "gcs": "--port",
    "client": "--ray-client-server-port",
    "agent": "--dashboard-agent-listen-port",
    "agent_grpc": "--dashboard-agent-grpc-port",
    "metrics": "--metrics-export-port",
}
"""Stable across starts: Ray looks for logs of earlier jobs at the agent's old port."""


def _build_ray(
    config: StackConfig, *, ports: Mapping[str, int] | None = None, offers_gpus: bool = True
) -> Component:
    address = parse_address(config.ray_url, setting="TANDEM_RAY_URL")
    command = [
        str(config.bin / "ray"),
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        f"--dashboard-host={_write_out(address.host)}",
        f"--dashboard-port={address.port}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--temp-dir={ray_temp_dir(config.home)}",
        # 0 lets the kernel choose: two stacks must not choose from the same range.
        "--min-worker-port=0",
        "--max-worker-port=0",
        *(f"{option}={ports[name]}" for name, option in _RAY_PORTS.items() if ports),
        # Without the option Ray offers every GPU that the driver shows.
        *([] if offers_gpus else ["--num-gpus=0"]),
    ]
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(config.ray_token_file),
        # The job table survives a killed head without Redis.
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(config.home / "ray" / "gcs"),
        # `tandem down` has already asked the jobs to end; waiting 30 s more gains nothing.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
        "RAY_COLOR_PREFIX": "0",
        "NO_COLOR": "1",
    }
    return _build_component(
        config,
        ComponentName.RAY,
        title="Ray",
        url=config.ray_url,
        setting="TANDEM_RAY_URL",
        health_path="/api/jobs/",
        command=tuple(command),
        env=env,
    )


def _write_out(host: str) -> str:
    """An IPv6 address in full: Ray replaces `::1` by 127.0.0.1."""
    return ip_address(host).exploded if ":" in host else host


def _build_mlflow(config: StackConfig) -> Component:
    address = parse_address(config.mlflow_url, setting="TANDEM_MLFLOW_URL")
    folder = config.home / "mlflow"
    command = (
        str(config.bin / "mlflow"),
        "server",
        f"--host={address.host}",
        f"--port={address.port}",
        "--workers=1",
        # Below the home, where it starts: MLflow makes a second folder of a name with escapes.
        "--backend-store-uri=sqlite:///mlflow/mlflow.db",
        "--serve-artifacts",
        # MLflow decodes percent signs of a plain path, too.
        f"--artifacts-destination={(folder / 'artifacts').as_uri()}",
    )
    env = {
        # Ten processes and 2.3 GB without this; two and 0.5 GB with it.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return _build_component(
        config,
        ComponentName.MLFLOW,
        title="MLflow",
        url=config.mlflow_url,
        setting="TANDEM_MLFLOW_URL",
        health_path="/api/2.0/mlflow/experiments/search?max_results=1",
        command=command,
        env=env,
    )


def _build_service(config: StackConfig) -> Component:
    env = {
        "TANDEM_HOME": str(config.home),
        "TANDEM_HOST": config.host,
        "TANDEM_PORT": str(config.port),
        "TANDEM_RAY_URL": config.ray_url,
        "TANDEM_MLFLOW_URL": config.mlflow_url,
        "TANDEM_RAY_TOKEN_FILE": str(config.ray_token_file),
    }
    return _build_component(
        config,
        ComponentName.SERVICE,
        title="Service",
        url=config.url,
        setting="TANDEM_PORT",
        # It queries the database and needs no token.
        health_path="/readyz",
        command=(str(config.bin / "tandem"), "serve"),
        env=env,
    )


def _build_component(  # noqa: PLR0913 - one argument for each difference between components
    config: StackConfig,
    name: ComponentName,
    *,
    title: str,
    url: str,
    setting: str,
    health_path: str,
    command: tuple[str, ...],
    env: Mapping[str, str],
) -> Component:
    marker = f"{config.home}:{name}"
    path = f"{config.bin}:{config.env.get('PATH', '')}".rstrip(":")
    return Component(
        name=name,
        title=title,
        url=url.rstrip("/"),
        address=parse_address(url, setting=setting),
        setting=setting,
        health_path=health_path,
        start_timeout_s=90.0,
        command=command,
        env=_complete_environment(
            {**_select_environment(config, name), "PATH": path, **env, MARKER_ENV: marker}, config
        ),
        pid_file=config.home / "stack" / f"{name}.json",
        log=config.home / "logs" / f"{name}.log",
        marker=marker,
    )


def _select_environment(config: StackConfig, name: ComponentName) -> dict[str, str]:
    match name:
        case ComponentName.RAY:
            return select_for_ray(
                config.env,
                has_remote_mlflow=config.has_remote_mlflow,
                additional=config.job_environment,
            )
        case ComponentName.MLFLOW:
            return select_for_mlflow(config.env)
        case ComponentName.SERVICE:
            return select_for_service(config.env, has_remote_mlflow=config.has_remote_mlflow)


def _complete_environment(env: dict[str, str], config: StackConfig) -> dict[str, str]:
    """With what every process needs, whatever the shell has: UTF-8, a home, no proxy in between."""
    complete_environment(env, config.ray_url, config.mlflow_url, config.url)
    return {**env, "HOME": env.get("HOME") or _find_home(config), "PYTHONUTF8": "1"}


def _find_home(config: StackConfig) -> str:
    """The user's home folder by the system's list of users; without an entry there, ours."""
    try:
        return str(Path.home())
    except RuntimeError:
        return str(config.home)


def _ensure_own_folder(folder: Path) -> None:
    """Create a folder whose name others can guess, below one in which they can create it, too.

    Raises `ForeignFolder` unless it belongs to this user alone.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ForeignFolder(folder)
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)


def _ensure_token(file: Path) -> None:
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, secrets.token_hex(32), mode=0o600)
