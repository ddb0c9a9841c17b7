"""compose.yaml and docker/, checked without a container engine."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
STACK: dict[str, Any] = yaml.safe_load(COMPOSE)
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
SECRETS = {
    "POSTGRES_PASSWORD",
    "SERVICE_DB_PASSWORD",
    "MLFLOW_DB_PASSWORD",
    "RAY_AUTH_TOKEN",
    "TANDEM_ADMIN_TOKEN",
    "TANDEM_VIEWER_TOKEN",
    "GRAFANA_PASSWORD",
}
IMAGE_VARIABLES = {"TANDEM_HOME", "TANDEM_SECRET_FILE", "TANDEM_LOG_FORMAT"}
CLIENT_VARIABLES = {"TANDEM_TOKEN", "TANDEM_TOKEN_FILE"}
OTHER_DEFAULTS = {"TANDEM_PORT", "TANDEM_RAY_TOKEN_FILE", "TANDEM_JOB_ENVIRONMENT"}
"""Compose publishes the port, sets the token, and gives nodes their variables itself."""


def load_pin_images() -> ModuleType:
    """Import a module of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location("pin_images", ROOT / "docker" / "pin_images.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pin_images"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


pin_images = load_pin_images()


def get_environment(service: str) -> dict[str, str | None]:
    return dict(STACK["services"][service].get("environment", {}))


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    file = tmp_path / "env"
    subprocess.run([ROOT / "docker" / "new-env.sh", file], check=True, capture_output=True)
    return file


def test_every_variable_of_compose_is_in_the_example_with_its_default() -> None:
    compose_defaults = dict(re.findall(r"(?<!\$)\$\{([A-Z_]+)(?::-([^}]*))?", COMPOSE))
    passed_variables = {
        name
        for service in STACK["services"]
        for name, value in get_environment(service).items()
        if value is None
    }

    documented = dict(re.findall(r"^(?:# )?([A-Z_0-9]+)=(.*)$", EXAMPLE, flags=re.MULTILINE))

    assert set(compose_defaults) | passed_variables <= set(documented)
    differing = {
        name
        for name, default in compose_defaults.items()
        if default and default != documented[name]
    }
    assert differing == {"TANDEM_MLFLOW_PUBLIC_URL"}  # here it has one


def test_no_secret_has_a_default_and_a_missing_one_is_named() -> None:
    for name in SECRETS:
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", COMPOSE)

        assert f":?{name} is not set, docker/new-env.sh writes it" in uses
        assert all(use == "" or use.startswith(":?") for use in uses)


def test_the_service_is_given_every_setting() -> None:
    settings = {f"TANDEM_{name.upper()}" for name in Settings.model_fields}

    assert (
        set(get_environment("service")) | IMAGE_VARIABLES | CLIENT_VARIABLES | OTHER_DEFAULTS
        == settings
    )


def test_secrets_reach_only_those_who_need_them() -> None:
    services_by_secret = {
        secret: {
            service
            for service in STACK["services"]
            if any(secret in str(value) for value in get_environment(service).values())
        }
        for secret in SECRETS
    }

    assert services_by_secret == {
        "POSTGRES_PASSWORD": {"postgres"},
        "SERVICE_DB_PASSWORD": {"postgres", "service"},
        "MLFLOW_DB_PASSWORD": {"postgres", "mlflow"},
        "RAY_AUTH_TOKEN": {"ray-head", "ray-worker", "ray-worker-gpu", "service"},
        "TANDEM_ADMIN_TOKEN": {"service", "tandem"},
        "TANDEM_VIEWER_TOKEN": {"service", "prometheus"},
        "GRAFANA_PASSWORD": {"grafana"},
    }


def test_what_is_published_is_on_loopback_and_ray_is_not() -> None:
    published = {
        name: service["ports"] for name, service in STACK["services"].items() if "ports" in service
    }

    assert set(published) == {"service", "mlflow", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_images_from_a_registry_are_those_of_the_lock() -> None:
    _, images = pin_images.read_lock(ROOT / "docker" / "base-images.txt")
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")

    used = {service["image"] for service in STACK["services"].values()}
    pulled = {image for image in used if not image.startswith("tandem-")}
    base = next(image for image in images if image.variable == "BASE_IMAGE")

    assert pulled == {f"${{{item.variable}:-{item.image}}}" for item in images if item != base}
    assert f"\nARG BASE_IMAGE={base.image}\n" in dockerfile
    bases = set(re.findall(r"^FROM (\S+)", dockerfile, flags=re.MULTILINE))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", dockerfile, flags=re.MULTILINE))
    assert bases - stages == {"${BASE_IMAGE}", "worker-${DEVICE}"}


def test_digests_of_the_lock_reach_the_env_file_and_a_mirror_stays(tmp_path: Path) -> None:
    for name in ("new-env.sh", "base-images.txt"):
        shutil.copy(ROOT / "docker" / name, tmp_path)
    old, new = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
    lock = tmp_path / "base-images.txt"
    lock.write_text(lock.read_text(encoding="utf-8").replace(" -\n", f" {new}\n"), encoding="utf-8")
    file = tmp_path / "env"
    file.write_text(
        f"POSTGRES_IMAGE=postgres:15@{old}\nGRAFANA_IMAGE=mirror/grafana:12\n", encoding="utf-8"
    )

    subprocess.run([tmp_path / "new-env.sh", file], check=True, capture_output=True)

    values = dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines())
    assert values["POSTGRES_IMAGE"] == f"postgres:15@{new}"
    assert values["BASE_IMAGE"] == f"debian:bookworm-slim@{new}"
    assert values["GRAFANA_IMAGE"] == "mirror/grafana:12"


def test_a_lock_with_something_else_than_a_digest_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "base-images.txt"
    file.write_text("BASE_IMAGE debian:bookworm-slim latest\n", encoding="utf-8")

    with pytest.raises(ValueError, match="latest is no digest"):
        pin_images.read_lock(file)


def test_no_container_can_do_more_than_it_needs() -> None:
    for name, service in STACK["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert any(folder.startswith("/tmp:") for folder in service["tmpfs"]), name
        assert 0 < service["pids_limit"] <= 32768, name
        assert parse_bytes(get_default(service["mem_limit"])) >= 2**30, name
    added = {name for name, service in STACK["services"].items() if "cap_add" in service}
    assert added == {"postgres"}


def test_service_and_workers_are_different_users_of_one_group() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    users = {
        stage.split("\n", 1)[0]: re.findall(r"^USER (\S+)$", stage, flags=re.MULTILINE)
        for stage in re.split(r"^FROM \S+ AS ", dockerfile, flags=re.MULTILINE)
    }

    assert users["worker-any"] == users["mlflow"] == ["10001"]
    assert users["service"] == ["10002"]
    # Every image creates the shared folder alike: the first one to mount the volume decides.
    shared = re.findall(r"install -d (.*) /var/lib/tandem ", dockerfile)
    assert shared == ["-o tandem-service -g tandem -m 3770"] * 2


def test_the_key_of_the_service_is_mounted_nowhere_else() -> None:
    mounts = {
        name: [volume.split(":")[0] for volume in service.get("volumes", [])]
        for name, service in STACK["services"].items()
    }

    assert [name for name, volumes in mounts.items() if "keys" in volumes] == ["service"]
    assert [name for name, volumes in mounts.items() if "ray" in volumes] == ["ray-head"]


def test_dashboards_and_metrics_have_networks_of_their_own() -> None:
    networks = {name: set(service["networks"]) for name, service in STACK["services"].items()}

    assert networks["grafana"] == {"dashboards"}
    assert networks["prometheus"] == {"metrics", "dashboards"}
    assert networks["postgres"] == {"database"}
    assert {name for name, joined in networks.items() if "dashboards" in joined} == {
        "grafana",
        "prometheus",
    }
    assert STACK["networks"]["metrics"] == {"internal": True}


def parse_bytes(size: str) -> int:
    """Parse a size like Docker."""
    number, unit = re.fullmatch(r"([0-9]+)([mg])b?", size.lower()).groups()  # type: ignore[union-attr]
    return int(number) * {"m": 2**20, "g": 2**30}[unit]


def get_default(value: str) -> str:
    """Get the default of a ${VARIABLE:-default}."""
    variable = re.fullmatch(r"\$\{[A-Z_]+:-(.*)\}", value)
    return value if variable is None else variable[1]


def test_the_worker_with_gpus_has_shared_memory_for_eight() -> None:
    shared = parse_bytes(get_default(STACK["services"]["ray-worker-gpu"]["shm_size"]))

    assert shared >= 8 * 2 * 2**30
    assert parse_bytes(STACK["services"]["ray-worker"]["shm_size"]) >= 2**30


def test_the_worker_with_gpus_may_lock_memory() -> None:
    assert STACK["services"]["ray-worker-gpu"]["ulimits"]["memlock"] == -1


def test_every_node_is_given_what_groups_talk_over_and_one_its_gpus() -> None:
    group = {"NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE", "NCCL_DEBUG", "GLOO_SOCKET_IFNAME"}
    gpus = {"RAY_WORKER_GPUS", "CUDA_VISIBLE_DEVICES"}

    for node in ("ray-head", "ray-worker", "ray-worker-gpu"):
        environment = get_environment(node)
        assert group <= set(environment)
        # Set and empty they would mean something: NCCL would look for interfaces without a name.
        assert all(environment[name] is None for name in group)
        assert gpus & set(environment) == (gpus if node == "ray-worker-gpu" else set())
    # Set and empty it hides every GPU.
    assert get_environment("ray-worker-gpu")["CUDA_VISIBLE_DEVICES"] is None
    assert (
        get_environment("ray-worker-gpu")["RAY_AUTH_TOKEN"]
        == (get_environment("ray-worker")["RAY_AUTH_TOKEN"])
    )


def test_new_secrets_are_good_and_stay(env_file: Path) -> None:
    before = env_file.read_text(encoding="utf-8")
    secrets = dict(line.split("=", 1) for line in before.splitlines())

    subprocess.run([ROOT / "docker" / "new-env.sh", env_file], check=True, capture_output=True)

    assert set(secrets) == SECRETS
    assert len(set(secrets.values())) == len(secrets)
    assert env_file.stat().st_mode & 0o077 == 0
    assert env_file.read_text(encoding="utf-8") == before
    Settings(
        admin_token=secrets["TANDEM_ADMIN_TOKEN"],
        viewer_token=secrets["TANDEM_VIEWER_TOKEN"],
    )


def test_a_secret_that_a_newer_version_needs_is_added(env_file: Path) -> None:
    lines = env_file.read_text(encoding="utf-8").splitlines()
    env_file.write_text("\n".join([*lines[:2], "RAY_AUTH_TOKEN=", ""]), encoding="utf-8")

    subprocess.run([ROOT / "docker" / "new-env.sh", env_file], check=True, capture_output=True)

    now = env_file.read_text(encoding="utf-8").splitlines()
    assert now[:2] == lines[:2]
    assert {line.split("=")[0] for line in now} == SECRETS
    assert re.fullmatch(r"[0-9a-f]{64}", dict(line.split("=", 1) for line in now)["RAY_AUTH_TOKEN"])


def test_the_locks_of_the_images_are_what_the_environment_gives() -> None:
    check = [sys.executable, str(ROOT / "docker" / "image_locks.py"), "--check"]
    result = subprocess.run(check, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    command = [str(hadolint), "--no-color", "docker/Dockerfile"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr


def test_images_are_given_what_they_copy() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    included = {line[1:] for line in ignored if line.startswith("!")}
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")

    copies = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", dockerfile, flags=re.MULTILINE)
    copied_paths = {path for line in copies for path in line.split()}

    assert copied_paths
    for path in copied_paths:
        assert (ROOT / path).exists(), path
        assert path.split("/")[0] in included, path
