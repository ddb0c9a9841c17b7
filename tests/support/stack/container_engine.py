"""The container engine of this machine, and Compose in whichever version it has."""

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


class NoEngine(Exception):
    """There is none that can build and run; says why."""


@dataclass(frozen=True)
class Engine:
    """A Docker client that reaches an engine and can build, and its Compose."""

    folder: Path
    """Where the client lies: first in PATH for what Compose starts."""

    compose: tuple[str, ...]

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "DOCKER_BUILDKIT": "1",
            "COMPOSE_DOCKER_CLI_BUILD": "1",
            **more,
        }


@cache
def find_engine() -> Engine:
    """The first that works; `NoEngine` where there is none."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    clients = [folder for folder in folders if (folder / "docker").is_file()]
    if not clients:
        raise NoEngine("there is no docker on this machine")
    reached = [folder for folder in clients if _goes(folder, "info")]
    if not reached:
        raise NoEngine("no Docker engine answers")
    builders = [folder for folder in reached if _builds(folder)]
    if not builders:
        raise NoEngine("the docker client cannot build with BuildKit (buildx is missing)")
    for folder in builders:
        if _goes(folder, "compose", "version"):
            return Engine(folder, (str(folder / "docker"), "compose"))
    if shutil.which("docker-compose") is None:
        raise NoEngine("Compose is missing: neither `docker compose` nor docker-compose")
    return Engine(builders[0], ("docker-compose",))


def _goes(folder: Path, *words: str) -> bool:
    command = [str(folder / "docker"), *words]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _builds(folder: Path) -> bool:
    asked = subprocess.run(
        [str(folder / "docker"), "build", "--quiet", "-"],
        input=_PROBE_DOCKERFILE,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
    )
    return asked.returncode == 0


@dataclass
class Project:
    """What Compose makes of compose.yaml under one name."""

    name: str
    engine: Engine
    env: dict[str, str] = field(repr=False)
    env_file: Path

    def compose(self, *words: str, patience_s: float = 600.0) -> str:
        """What Compose printed; it has to go well."""
        head = [*self.engine.compose, "--project-name", self.name, "--env-file", str(self.env_file)]
        return self._run([*head, *words], patience_s=patience_s)

    def docker(self, *words: str, patience_s: float = 120.0) -> str:
        """What docker printed; it has to go well."""
        return self._run([str(self.engine.folder / "docker"), *words], patience_s=patience_s)

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers, those that ended included."""
        label = f"label=com.docker.compose.service={service}"
        return self.docker("ps", "--all", "--quiet", *self.ours, "--filter", label).split()

    def state(self, container: str) -> dict[str, object]:
        """As the engine tells: Pid, StartedAt, Health."""
        told = json.loads(self.docker("inspect", "--format", "{{json .State}}", container))
        assert isinstance(told, dict)
        return told

    def is_healthy(self, container: str) -> bool:
        health = self.state(container).get("Health")
        return isinstance(health, dict) and health["Status"] == "healthy"

    def leftovers(self) -> list[str]:
        """Everything of this name that is still there, containers, volumes, networks."""
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return [
            line
            for kind in kinds
            for line in self.docker(*kind, "--quiet", *self.ours).splitlines()
        ]

    @property
    def ours(self) -> tuple[str, str]:
        return "--filter", f"label=com.docker.compose.project={self.name}"

    def _run(self, command: list[str], *, patience_s: float) -> str:
        answer = subprocess.run(
            command,
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )
        assert answer.returncode == 0, f"{' '.join(command[:6])}: {answer.stdout}{answer.stderr}"
        return answer.stdout
