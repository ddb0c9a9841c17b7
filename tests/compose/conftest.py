"""One stack of containers for all tests here, built as a user does; a table of what it took."""

import secrets
import subprocess
from collections.abc import Iterator

import pytest

from service.client import TandemClient
from service.stack.ports import choose_free_port
from tests.support.stack.container_engine import ROOT, NoEngine, Project, find_engine
from tests.support.stack.containers import (
    FIGURES,
    IMAGES,
    ComposeStack,
    build_images,
    read_secrets,
    start_services,
)


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
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
        build_images(project)
        start_services(project)
        yield ComposeStack(project, ports, read_secrets(env_file))
    finally:
        project.compose(
            "--profile", "observability", "down", "--volumes", "--remove-orphans", "--timeout", "5"
        )
        for image in IMAGES:
            project.docker("image", "rm", "--force", f"tandem-{image}:{name}")
    assert project.leftovers() == []


@pytest.fixture
def client(stack: ComposeStack) -> Iterator[TandemClient]:
    with TandemClient(stack.url, token=stack.secrets["TANDEM_ADMIN_TOKEN"]) as made:
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What it took."""
    if not FIGURES:
        return
    terminalreporter.section("containers")
    for what, figure in FIGURES:
        terminalreporter.write_line(f"{what:44}{figure}")
