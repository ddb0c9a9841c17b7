"""What runs inside a container that a command line of Docker or Compose starts or enters."""

from dataclasses import dataclass

from tests.support.documents.examples import ROOT

_FLAGS = frozenset({"--rm", "--no-deps", "-T"})
_VOLUMES = frozenset({"-v", "--volume"})
_ENTRYPOINTS = {"tandem": ["tandem"], "service": ["tandem"]}
"""Entry points of the services of compose.yaml whose command line is Tandem's."""

COMPOSE = ROOT / "compose.yaml"


@dataclass(frozen=True)
class ContainerCommand:
    """A command, and the folders or volumes that it finds below its mount points."""

    arguments: list[str]
    volumes: dict[str, str]


def command_in_container(command_line: list[str]) -> ContainerCommand | None:
    """The command inside, for the forms `docker run`, `docker compose run` and `compose exec`.

    None for other forms, and for options that the tests do not know.
    """
    match command_line:
        case ["docker", "compose", "run", *options]:
            parsed = _parse_options(options)
            if parsed is None or parsed.arguments[0] not in _ENTRYPOINTS:
                return None
            service, *arguments = parsed.arguments
            return ContainerCommand([*_ENTRYPOINTS[service], *arguments], parsed.volumes)
        case ["docker", "compose", "exec", *options] | ["docker", "run", *options]:
            parsed = _parse_options(options)
            return parsed and ContainerCommand(parsed.arguments[1:], parsed.volumes)
    return None


def _parse_options(arguments: list[str]) -> ContainerCommand | None:
    """Skip the options before the name of a service or an image."""
    remaining, volumes = list(arguments), {}
    while remaining and remaining[0].startswith("-"):
        option = remaining.pop(0)
        if option in _VOLUMES:
            source, target = remaining.pop(0).removesuffix(":ro").split(":")
            volumes[target] = source
        elif option not in _FLAGS:
            return None
    return ContainerCommand(remaining, volumes) if remaining else None
