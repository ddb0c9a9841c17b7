"""The container engine of this machine, and its version of Compose."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
_PROBE_DOCKERFILE = "FROM scratch\nLABEL tandem=probe\n"


class EngineUnavailable(Exception):
    """No container engine can build and run; the message says why."""


@dataclass(frozen=True)
class Engine:
    """A Docker client that reaches an engine and can build, and its Compose."""

    folder: Path
    """Folder of the client; first in PATH of the processes that Compose starts."""

    compose: tuple[str, ...]

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "DOCKER_BUILDKIT": "1",
            "COMPOSE_DOCKER_CLI_BUILD": "1",
            **extra,
        }


@cache
def find_engine() -> Engine:
    """Find the first engine that works; raises `EngineUnavailable`."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    clients = [folder for folder in folders if (folder / "docker").is_file()]
    if not clients:
        raise EngineUnavailable("there is no docker on this machine")
    reachable = [folder for folder in clients if _succeeds(folder, "info")]
    if not reachable:
        raise EngineUnavailable("no Docker engine answers")
    builders = [folder for folder in reachable if _can_build(folder)]
    if not builders:
        raise EngineUnavailable("the docker client cannot build with BuildKit (buildx is missing)")
    for folder in builders:
        if _succeeds(folder, "compose", "version"):
            return Engine(folder, (str(folder / "docker"), "compose"))
    if shutil.which("docker-compose") is None:
        raise EngineUnavailable("Compose is missing: neither `docker compose` nor docker-compose")
    return Engine(builders[0], ("docker-compose",))


def _succeeds(folder: Path, *arguments: str) -> bool:
    command = [str(folder / "docker"), *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _can_build(folder: Path) -> bool:
    result = subprocess.run(
        [str(folder / "docker"), "build", "--quiet", "-"],
        input=_PROBE_DOCKERFILE,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
    )
    return result.returncode == 0


@dataclass
class ComposeProject:
    """A Compose project of compose.yaml."""

    name: str
    engine: Engine
    env: dict[str, str] = field(repr=False)
    env_file: Path

    def compose(self, *arguments: str, timeout_s: float = 600.0) -> str:
        """Run Compose and return its output; fails on another exit code than 0."""
        head = [*self.engine.compose, "--project-name", self.name, "--env-file", str(self.env_file)]
        return self._run([*head, *arguments], timeout_s=timeout_s)

    def docker(self, *arguments: str, timeout_s: float = 120.0) -> str:
        """Run docker and return its output; fails on another exit code than 0."""
        return self._run([str(self.engine.folder / "docker"), *arguments], timeout_s=timeout_s)

    def containers(self, service: str) -> list[str]:
        """List the ids of a service's containers, including exited ones."""
        label = f"label=com.docker.compose.service={service}"
        return self.docker(
            "ps", "--all", "--quiet", *self.project_filter, "--filter", label
        ).split()

    def state(self, container: str) -> dict[str, object]:
        """Get the engine's state of a container: Pid, StartedAt, Health."""
        document = json.loads(self.docker("inspect", "--format", "{{json .State}}", container))
        assert isinstance(document, dict)
        return document

    def is_healthy(self, container: str) -> bool:
        health = self.state(container).get("Health")
        return isinstance(health, dict) and health["Status"] == "healthy"

    def leftovers(self) -> list[str]:
        """List the containers, volumes and networks of the project that still exist."""
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return [
            line
            for kind in kinds
            for line in self.docker(*kind, "--quiet", *self.project_filter).splitlines()
        ]

    @property
    def project_filter(self) -> tuple[str, str]:
        return "--filter", f"label=com.docker.compose.project={self.name}"

    def _run(self, command: list[str], *, timeout_s: float) -> str:
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert result.returncode == 0, f"{' '.join(command[:6])}: {result.stdout}{result.stderr}"
        return result.stdout
