"""compose.yaml and docker/: what can be said of them without an engine."""

import re
import subprocess
import sys
from pathlib import Path
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
OF_THE_IMAGE = {"TANDEM_HOME", "TANDEM_SECRET_FILE", "TANDEM_LOG_FORMAT"}
OF_A_PERSON = {"TANDEM_TOKEN", "TANDEM_TOKEN_FILE"}
OTHERWISE = {"TANDEM_PORT", "TANDEM_RAY_TOKEN_FILE"}
"""The port is published, and the token is given itself."""


def environment_of(service: str) -> dict[str, str | None]:
    return dict(STACK["services"][service].get("environment", {}))


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    file = tmp_path / "env"
    subprocess.run([ROOT / "docker" / "new-env.sh", file], check=True, capture_output=True)
    return file


def test_every_variable_of_compose_is_in_the_example_with_its_default() -> None:
    asked = dict(re.findall(r"(?<!\$)\$\{([A-Z_]+)(?::-([^}]*))?", COMPOSE))
    passed = {
        name
        for service in STACK["services"]
        for name, value in environment_of(service).items()
        if value is None
    }

    shown = dict(re.findall(r"^(?:# )?([A-Z_0-9]+)=(.*)$", EXAMPLE, flags=re.MULTILINE))

    assert set(asked) | passed <= set(shown)
    differing = {name for name, default in asked.items() if default and default != shown[name]}
    assert differing == {"TANDEM_MLFLOW_PUBLIC_URL"}  # here it has one


def test_no_secret_has_a_default_and_a_missing_one_is_named() -> None:
    for name in SECRETS:
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", COMPOSE)

        assert f":?{name} is not set, docker/new-env.sh writes it" in uses
        assert all(use == "" or use.startswith(":?") for use in uses)


def test_the_service_is_given_every_setting() -> None:
    settings = {f"TANDEM_{name.upper()}" for name in Settings.model_fields}

    assert set(environment_of("service")) | OF_THE_IMAGE | OF_A_PERSON | OTHERWISE == settings


def test_secrets_reach_only_those_who_need_them() -> None:
    holders = {
        secret: {
            service
            for service in STACK["services"]
            if any(secret in str(value) for value in environment_of(service).values())
        }
        for secret in SECRETS
    }

    assert holders == {
        "POSTGRES_PASSWORD": {"postgres"},
        "SERVICE_DB_PASSWORD": {"postgres", "service"},
        "MLFLOW_DB_PASSWORD": {"postgres", "mlflow"},
        "RAY_AUTH_TOKEN": {"ray-head", "ray-worker", "ray-worker-gpu", "service"},
        "TANDEM_ADMIN_TOKEN": {"service", "tandem"},
        "TANDEM_VIEWER_TOKEN": {"service", "prometheus"},
        "GRAFANA_PASSWORD": {"grafana"},
    }


def test_what_is_published_is_on_loopback_and_ray_is_not() -> None:
    published = {name: one["ports"] for name, one in STACK["services"].items() if "ports" in one}

    assert set(published) == {"service", "mlflow", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_our_containers_can_do_nothing_more_than_they_need() -> None:
    for name in ("service", "mlflow", "ray-head", "ray-worker", "ray-worker-gpu", "tandem"):
        assert STACK["services"][name]["cap_drop"] == ["ALL"]
        assert STACK["services"][name]["security_opt"] == ["no-new-privileges:true"]
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert dockerfile.count("\nUSER 10001") == 3


def bytes_of(size: str) -> int:
    """A size as Docker reads it."""
    number, unit = re.fullmatch(r"([0-9]+)([mg])b?", size.lower()).groups()  # type: ignore[union-attr]
    return int(number) * {"m": 2**20, "g": 2**30}[unit]


def default_of(value: str) -> str:
    """The default of a ${VARIABLE:-default}."""
    variable = re.fullmatch(r"\$\{[A-Z_]+:-(.*)\}", value)
    return value if variable is None else variable[1]


def test_the_worker_with_gpus_has_shared_memory_for_eight() -> None:
    shared = bytes_of(default_of(STACK["services"]["ray-worker-gpu"]["shm_size"]))

    assert shared >= 8 * 2 * 2**30
    assert bytes_of(STACK["services"]["ray-worker"]["shm_size"]) >= 2**30


def test_the_worker_with_gpus_may_lock_memory() -> None:
    assert STACK["services"]["ray-worker-gpu"]["ulimits"]["memlock"] == -1


def test_every_node_is_given_what_groups_talk_over_and_one_its_gpus() -> None:
    group = {"NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE", "NCCL_DEBUG", "GLOO_SOCKET_IFNAME"}
    gpus = {"RAY_WORKER_GPUS", "CUDA_VISIBLE_DEVICES"}

    for node in ("ray-head", "ray-worker", "ray-worker-gpu"):
        environment = environment_of(node)
        assert group <= set(environment)
        # Set and empty they would mean something: NCCL would look for interfaces without a name.
        assert all(environment[name] is None for name in group)
        assert gpus & set(environment) == (gpus if node == "ray-worker-gpu" else set())
    # Set and empty it hides every GPU.
    assert environment_of("ray-worker-gpu")["CUDA_VISIBLE_DEVICES"] is None
    assert (
        environment_of("ray-worker-gpu")["RAY_AUTH_TOKEN"]
        == (environment_of("ray-worker")["RAY_AUTH_TOKEN"])
    )


def test_new_secrets_are_good_and_stay(env_file: Path) -> None:
    before = env_file.read_text(encoding="utf-8")
    found = dict(line.split("=", 1) for line in before.splitlines())

    subprocess.run([ROOT / "docker" / "new-env.sh", env_file], check=True, capture_output=True)

    assert set(found) == SECRETS
    assert len(set(found.values())) == len(found)
    assert env_file.stat().st_mode & 0o077 == 0
    assert env_file.read_text(encoding="utf-8") == before
    Settings(
        admin_token=found["TANDEM_ADMIN_TOKEN"],
        viewer_token=found["TANDEM_VIEWER_TOKEN"],
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
    answer = subprocess.run(check, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    command = [str(hadolint), "--no-color", "docker/Dockerfile"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_images_are_given_what_they_copy() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    given = {line[1:] for line in ignored if line.startswith("!")}
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")

    copies = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", dockerfile, flags=re.MULTILINE)
    copied = {path for line in copies for path in line.split()}

    assert copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert path.split("/")[0] in given, path
