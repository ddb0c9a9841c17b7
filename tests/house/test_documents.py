"""Every command and example in the documents is accepted by the programs."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.exceptions import TyperException
from typer.main import get_command

from configs.catalog import preset_names
from service.api.schemas.runs import RunRequest
from service.cli import app
from workers.cli import app as worker_app
from workers.cli.teachers import app as worker_teachers_app

ROOT = Path(__file__).parents[2]
DOCUMENTS = (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/*.md")))


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for code in re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield document, code


def commands(program: str) -> list[tuple[str, str]]:
    return [
        (document.name, line)
        for document, code in blocks("bash")
        for line in code.replace("\\\n", " ").splitlines()
        if line.startswith(f"{program} ")
    ]


def parse(command: Any, arguments: list[str]) -> None:
    """Parse the arguments of a program without running it."""
    inner = getattr(command, "commands", None)
    if inner is not None:
        name, *remaining = arguments
        parse(inner[name], remaining)
        return
    try:
        command.make_context(command.name, arguments)
    except TyperException as error:
        if type(error).__name__ != "BadParameter":  # which a file that is not here would be
            raise


def get_worker_command() -> Any:
    command: Any = get_command(worker_app)
    command.commands["teachers"] = get_command(worker_teachers_app)
    return command


@pytest.mark.parametrize(("document", "line"), commands("tandem"))
def test_a_command_of_the_documents_is_accepted(document: str, line: str) -> None:
    parse(get_command(app), shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize(("document", "line"), commands("tandem-worker"))
def test_a_command_of_the_worker_is_accepted(document: str, line: str) -> None:
    parse(get_worker_command(), shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize(
    "line", ["runs --no-such-option", "run", "no-such-command", "tokens create"]
)
def test_a_command_that_the_program_refuses_is_found(line: str) -> None:
    with pytest.raises((KeyError, TyperException)):
        parse(get_command(app), shlex.split(line))


def test_requests_of_the_documents_are_valid() -> None:
    bodies = [
        json.loads(body)
        for _, code in blocks("bash")
        for body in re.findall(r"/v1/runs.*?-d '(\{.*?\})'", code, re.DOTALL)
    ]

    assert bodies
    for body in bodies:
        RunRequest.model_validate(body)


def test_python_of_the_documents_compiles_and_its_imports_exist() -> None:
    examples = [code for _, code in blocks("python")]

    assert examples
    for code in examples:
        compile(code, "example", "exec")
        imports = re.findall(r"^(?:from|import) .*$", code, re.MULTILINE)
        names: dict[str, Any] = {}
        exec("\n".join(imports), names)


def test_every_preset_in_the_documents_exists() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)

    presets = set(re.findall(r"`((?:digits|coco|quick|bccd)/[a-z0-9_]+)`", text))

    assert presets
    assert presets <= set(preset_names())


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text("utf-8"))
        if not (document.parent / target).exists()
    ]

    assert broken == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
