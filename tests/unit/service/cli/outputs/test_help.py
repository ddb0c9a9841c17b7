"""The help page, the version, and typing errors."""

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from service.cli import create_app
from service.cli.console.commands import MODULES
from tests.support.cli.outputs import CommandLine


def test_help(command_line: CommandLine) -> None:
    command_line.check("help", "--help")


def test_a_command_line_for_one_command_has_no_other() -> None:
    root = get_command(create_app("loss-shares"))
    assert isinstance(root, TyperGroup)

    assert list(root.commands) == ["loss-shares"]


@pytest.mark.parametrize("name", ["tandem", "--help", "rnus"])
def test_a_command_line_for_no_command_has_all(name: str) -> None:
    root = get_command(create_app(name))
    assert isinstance(root, TyperGroup)

    assert sorted(root.commands) == sorted(MODULES)


def test_version(command_line: CommandLine) -> None:
    output = command_line.run("--version")

    assert output.text.startswith("tandem 0.")
    assert output.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("sweps",), "Did you mean 'sweeps'"),
        (("sweeps", "--jsn"), "--json"),
        (("tokens", "lst"), "Did you mean 'list'"),
    ],
    ids=["command", "option", "subcommand"],
)
def test_a_typing_error_names_what_is_similar(
    command_line: CommandLine, arguments: tuple[str, ...], hint: str
) -> None:
    output = command_line.run(*arguments)

    assert output.exit_code == 2
    assert hint in output.text
