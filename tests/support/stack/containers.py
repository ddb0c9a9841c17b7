"""The Compose stack: built, started, and measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.stack.container_engine import Project
from tests.support.stack.quick_preset import TINY

IMAGES = ("service", "worker", "mlflow")
STARTED = ("postgres", "mlflow", "ray-head", "ray-worker", "service")
PATIENCE_S = 300.0
FIGURES: list[tuple[str, str]] = []
"""What was measured, for the table at the end."""


@dataclass(frozen=True)
class ComposeStack:
    """The containers, and how a person reaches them."""

    project: Project
    ports: dict[str, int]
    secrets: dict[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['TANDEM_PORT']}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['MLFLOW_PORT']}"


def when(is_so: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> float:
    """Wait until it is so; how many seconds that took."""
    began_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - began_s < patience_s, "it did not happen in time"
        time.sleep(0.2)
    return time.monotonic() - began_s


def build_images(project: Project) -> None:
    for image, service in zip(IMAGES, ("service", "ray-worker", "mlflow"), strict=True):
        began_s = time.monotonic()
        project.compose("build", service, patience_s=3600)
        took_s = time.monotonic() - began_s
        told = project.docker(
            "image", "inspect", "--format", "{{.Size}}", f"tandem-{image}:{project.name}"
        )
        FIGURES.append((f"image {image}", f"{int(told) / 1e6:.0f} MB, built in {took_s:.0f} s"))


def start_services(project: Project) -> None:
    began_s = time.monotonic()
    project.compose("up", "--detach", "--no-build")
    when(lambda: all(_is_up(project, service) for service in STARTED))
    FIGURES.append(("from up until all are healthy", f"{time.monotonic() - began_s:.0f} s"))
    words = ("data", "digits", "--name", "digits-tiny", *TINY)
    project.compose("run", "--rm", "-T", "tandem", *words)


def _is_up(project: Project, service: str) -> bool:
    found = project.containers(service)
    return bool(found) and all(map(project.is_healthy, found))


def read_secrets(env_file: Path) -> dict[str, str]:
    lines = env_file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)
