"""One stack of containers for all tests here, built as a user does; a table of what it took."""

import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.client import TandemClient
from service.stack.ports import choose_free_port
from tests.compose.engine import ROOT, NoEngine, Project, find_engine
from tests.instant import TINY

IMAGES = ("service", "worker", "mlflow")
STARTED = ("postgres", "mlflow", "ray-head", "ray-worker", "service")
PATIENCE_S = 300.0
FIGURES: list[tuple[str, str]] = []
"""What was measured, for the table at the end."""


@dataclass(frozen=True)
class Harbour:
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


@pytest.fixture(scope="package")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    try:
        engine = find_engine()
    except NoEngine as why:
        pytest.skip(f"containers are not tried: {why}")
    env_file = tmp_path_factory.mktemp("compose") / "env"
    subprocess.run([ROOT / "docker" / "new-env.sh", env_file], check=True, capture_output=True)
    name = f"tandem-test-{secrets.token_hex(3)}"
    ports = {part: choose_free_port() for part in ("TANDEM_PORT", "MLFLOW_PORT", "PROMETHEUS_PORT")}
    # Two processes of two cores each then need two containers, however many cores there are.
    given = {"IMAGE_TAG": name, "RAY_WORKER_CPUS": "2", "COMPOSE_PROFILES": ""}
    more = {**{part: str(port) for part, port in ports.items()}, **given}
    project = Project(name, engine, engine.environment(more), env_file)
    try:
        _build(project)
        _start(project)
        yield Harbour(project, ports, _secrets(env_file))
    finally:
        project.compose(
            "--profile", "observability", "down", "--volumes", "--remove-orphans", "--timeout", "5"
        )
        for image in IMAGES:
            project.docker("image", "rm", "--force", f"tandem-{image}:{name}")
    assert project.leftovers() == []


@pytest.fixture
def client(harbour: Harbour) -> Iterator[TandemClient]:
    with TandemClient(harbour.url, token=harbour.secrets["TANDEM_ADMIN_TOKEN"]) as made:
        yield made


def when(is_so: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> float:
    """Wait until it is so; how many seconds that took."""
    began_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - began_s < patience_s, "it did not happen in time"
        time.sleep(0.2)
    return time.monotonic() - began_s


def _build(project: Project) -> None:
    for image, service in zip(IMAGES, ("service", "ray-worker", "mlflow"), strict=True):
        began_s = time.monotonic()
        project.compose("build", service, patience_s=3600)
        took_s = time.monotonic() - began_s
        told = project.docker(
            "image", "inspect", "--format", "{{.Size}}", f"tandem-{image}:{project.name}"
        )
        FIGURES.append((f"image {image}", f"{int(told) / 1e6:.0f} MB, built in {took_s:.0f} s"))


def _start(project: Project) -> None:
    began_s = time.monotonic()
    project.compose("up", "--detach", "--no-build")
    when(lambda: all(_is_up(project, service) for service in STARTED))
    FIGURES.append(("from up until all are healthy", f"{time.monotonic() - began_s:.0f} s"))
    words = ("data", "digits", "--name", "digits-tiny", *TINY)
    project.compose("run", "--rm", "-T", "tandem", *words)


def _is_up(project: Project, service: str) -> bool:
    found = project.containers(service)
    return bool(found) and all(map(project.is_healthy, found))


def _secrets(env_file: Path) -> dict[str, str]:
    lines = env_file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What it took."""
    if not FIGURES:
        return
    terminalreporter.section("containers")
    for what, figure in FIGURES:
        terminalreporter.write_line(f"{what:44}{figure}")
