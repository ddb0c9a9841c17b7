"""The Compose stack that all container tests share, and a table of sizes and durations."""

import secrets
import subprocess
from collections.abc import Iterator

import pytest

from service.client import TandemClient
from service.stack.ports import choose_free_port
from tests.support.stack.container_engine import (
    ROOT,
    ComposeProject,
    EngineUnavailable,
    find_engine,
)
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
    except EngineUnavailable as why:
        pytest.skip(f"no container engine: {why}")
    env_file = tmp_path_factory.mktemp("compose") / "env"
    subprocess.run([ROOT / "docker" / "new-env.sh", env_file], check=True, capture_output=True)
    name = f"tandem-test-{secrets.token_hex(3)}"
    ports = {
        variable: choose_free_port()
        for variable in ("TANDEM_PORT", "MLFLOW_PORT", "PROMETHEUS_PORT")
    }
    # Two processes of two cores each then need two containers, however many cores there are.
    options = {"IMAGE_TAG": name, "RAY_WORKER_CPUS": "2", "COMPOSE_PROFILES": ""}
    extra = {**{variable: str(port) for variable, port in ports.items()}, **options}
    project = ComposeProject(name, engine, engine.environment(extra), env_file)
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
    with TandemClient(stack.url, token=stack.secrets["TANDEM_ADMIN_TOKEN"]) as tandem_client:
        yield tandem_client


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print image sizes and durations."""
    if not FIGURES:
        return
    terminalreporter.section("containers")
    for name, figure in FIGURES:
        terminalreporter.write_line(f"{name:44}{figure}")
