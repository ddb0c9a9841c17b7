"""Building, starting and measuring the Compose stack."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.stack.container_engine import ComposeProject
from tests.support.stack.quick_preset import TINY

IMAGES = ("service", "worker", "mlflow")
SERVICES = ("postgres", "mlflow", "ray-head", "ray-worker", "service")
TIMEOUT_S = 300.0
FIGURES: list[tuple[str, str]] = []
"""Measurements (name, value) for the table at the end."""


@dataclass(frozen=True)
class ComposeStack:
    """The running containers, their ports on the host and their secrets."""

    project: ComposeProject
    ports: dict[str, int]
    secrets: dict[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['TANDEM_PORT']}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['MLFLOW_PORT']}"


def measure_wait(condition: Callable[[], bool], *, timeout_s: float = TIMEOUT_S) -> float:
    """Wait until the condition holds; returns the seconds that it took."""
    start_s = time.monotonic()
    while not condition():
        assert time.monotonic() - start_s < timeout_s, "it did not happen in time"
        time.sleep(0.2)
    return time.monotonic() - start_s


def build_images(project: ComposeProject) -> None:
    for image, service in zip(IMAGES, ("service", "ray-worker", "mlflow"), strict=True):
        start_s = time.monotonic()
        project.compose("build", service, timeout_s=3600)
        took_s = time.monotonic() - start_s
        size = project.docker(
            "image", "inspect", "--format", "{{.Size}}", f"tandem-{image}:{project.name}"
        )
        FIGURES.append((f"image {image}", f"{int(size) / 1e6:.0f} MB, built in {took_s:.0f} s"))


def start_services(project: ComposeProject) -> None:
    start_s = time.monotonic()
    project.compose("up", "--detach", "--no-build")
    measure_wait(lambda: all(_is_healthy(project, service) for service in SERVICES))
    FIGURES.append(("from up until all are healthy", f"{time.monotonic() - start_s:.0f} s"))
    arguments = ("data", "digits", "--name", "digits-tiny", *TINY)
    project.compose("run", "--rm", "-T", "tandem", *arguments)


def _is_healthy(project: ComposeProject, service: str) -> bool:
    containers = project.containers(service)
    return bool(containers) and all(map(project.is_healthy, containers))


def read_secrets(env_file: Path) -> dict[str, str]:
    lines = env_file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)
