"""Every command has stored output, or a reason why it has none."""

from collections.abc import Iterator

from typer.core import TyperGroup
from typer.main import get_command

from service.cli import create_app
from tests.support.cli.json_keys import documented_keys
from tests.support.cli.outputs import GOLDEN

_WORKER = "`tandem-worker` prints"

WITHOUT_STORED_OUTPUT = {
    "distill": "it trains; tests/e2e/test_own_data.py runs it",
    "predict": _WORKER,
    "data digits": _WORKER,
    "data import": _WORKER,
    "data import-voc": _WORKER,
    "data import-coco": _WORKER,
    "data import-yolo": _WORKER,
    "data import-images": _WORKER,
    "teachers fetch": _WORKER,
    "methods new": "it writes a folder; tests/training/models/test_method_package.py uses it",
}


def test_every_command_has_stored_output() -> None:
    first_lines = [
        file.read_text(encoding="utf-8").splitlines()[0] for file in GOLDEN.glob("*.txt")
    ]
    stored = {name for name in command_names() if any(is_call(line, name) for line in first_lines)}

    assert set(command_names()) - stored == set(WITHOUT_STORED_OUTPUT)


def test_the_json_of_every_command_is_documented() -> None:
    documented = {name for name in documented_keys() if not name.endswith("--plan")}

    assert {name for name in command_names() if has_json(name)} - documented == set()
    assert documented - set(command_names()) == set(), "no such command"


def has_json(name: str) -> bool:
    command = get_command(create_app())
    for part in name.split():
        assert isinstance(command, TyperGroup)
        command = command.commands[part]
    return any("--json" in parameter.opts for parameter in command.params)


def command_names() -> Iterator[str]:
    root = get_command(create_app())
    assert isinstance(root, TyperGroup)
    for name, command in root.commands.items():
        if isinstance(command, TyperGroup):
            yield from (f"{name} {subcommand}" for subcommand in command.commands)
        else:
            yield name


def is_call(line: str, name: str) -> bool:
    return f"{line} ".startswith(f"$ tandem {name} ")
