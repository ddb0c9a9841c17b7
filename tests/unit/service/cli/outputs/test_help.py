"""The help page, the version, and typing errors."""

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from service.cli import COMMANDS, create_app
from service.cli.console.help_pages import SECTIONS
from tests.support.cli.outputs import CommandLine


def test_help(command_line: CommandLine) -> None:
    command_line.check("help", "--help")


def test_every_command_is_in_one_section_of_the_help_page() -> None:
    root = get_command(create_app())
    assert isinstance(root, TyperGroup)

    grouped = [name for names in SECTIONS.values() for name in names]

    assert sorted(grouped) == sorted(root.commands)


@pytest.mark.parametrize("module", COMMANDS)
def test_each_module_registers_the_commands_that_the_table_names(module: str) -> None:
    root = get_command(create_app(COMMANDS[module][0]))
    assert isinstance(root, TyperGroup)

    assert sorted(root.commands) == sorted(COMMANDS[module])


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
