"""Runs the commands of a document in order, as a person at one terminal does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import httpx
import pytest
import typer

from service.cli import main, session
from service.stack.ports import choose_free_port
from tests.support.documents.command_line import (
    replace_placeholders,
    split_arguments,
    split_assignments,
)
from tests.support.documents.containers import command_in_container
from tests.support.documents.curl import parse_curl
from tests.support.documents.examples import ROOT, Example
from tests.support.documents.run_elsewhere import COMMANDS, MAKE, TINY_DIGITS
from tests.support.documents.service import LocalService
from tests.support.documents.state import DocumentState
from tests.support.workers.dataset_folders import CocoFolder, VocFolder

_CONTAINER_HOME = "/var/lib/tandem"
_HOME_VOLUME = "tandem_checkpoints"


class UnknownCommand(Exception):
    """A command that is neither run here nor in the table of commands that are run elsewhere."""


@dataclass(frozen=True)
class Answer:
    """What a command of `tandem` printed, and its exit code."""

    exit_code: int
    output: str


class DocumentShell:
    """A terminal in an empty home folder, with a service in this process."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = home / "work"
        self.folder.mkdir()
        self._home = home
        self._patch = patch
        self._exported: list[str] = []
        _prepare_environment(home, self.folder, patch)
        self.service = LocalService(home / ".tandem", patch)
        self.state = DocumentState(self.service)
        self._effects: dict[str, Callable[[], None]] = {
            "tandem up": self.service.stop,  # it starts again with the settings of this shell
            "tandem down": self.service.stop,
            TINY_DIGITS: lambda: self.service.register_digits("digits-tiny"),
            "docker compose up --detach postgres": self._empty_volumes,
        }

    def run(self, example: Example) -> None:
        """Run a command or a snippet; raise `AssertionError` if it fails."""
        if example.language == "python":
            self.service.finish_runs(is_on=True)
            exec(compile(example.text, example.document, "exec"), {})
            self.service.finish_runs(is_on=False)
            return
        if example.text.startswith("export "):
            self._export(example.text)
            return
        self._effects.get(example.text, lambda: None)()
        if example.text in COMMANDS:
            return
        arguments = split_arguments(example.text, folder=self.folder)
        variables, command = split_assignments(arguments)
        values = self.state.placeholders(example.text)
        self._run_command(replace_placeholders(command, values), variables)

    def end_block(self) -> None:
        """Forget exported variables: the next block is another shell."""
        for name in self._exported:
            self._patch.delenv(name, raising=False)
        self._exported.clear()

    def _run_command(self, command_line: list[str], variables: dict[str, str]) -> None:
        match command_line:
            case ["tandem", *arguments]:
                self._run_tandem(arguments)
            case ["curl", *arguments]:
                self._run_curl(arguments)
            case ["make", target, *_] if target in MAKE:
                run_process(
                    ["make", "--dry-run", *command_line[1:]], folder=ROOT, variables=variables
                )
            case ["docker/new-env.sh"]:
                run_process(
                    [str(ROOT / command_line[0]), str(self.folder / ".env")], folder=self.folder
                )
            case ["tar", *_]:
                run_process(command_line, folder=self.folder)
            case ["docker", *_] if (command := command_in_container(command_line)) is not None:
                folders = {_CONTAINER_HOME: str(self.service.home)} | {
                    target: self._volume(source) for target, source in command.volumes.items()
                }
                self._run_command(_move_paths(command.arguments, folders), variables)
            case _:
                raise UnknownCommand(" ".join(command_line))

    def _run_tandem(self, arguments: list[str]) -> None:
        self.state.prepare(arguments)
        answer = self.call_tandem(arguments)
        assert answer.exit_code == 0, f"tandem {' '.join(arguments)}: {answer.output}"
        self.state.remember(arguments, answer.output)

    def call_tandem(self, arguments: list[str]) -> Answer:
        """Call the main function of `tandem`, whatever its exit code is."""
        session.load_settings.cache_clear()
        self._patch.setattr(sys, "argv", ["tandem", *arguments])
        output, exit_code = StringIO(), 0
        with redirect_stdout(output), redirect_stderr(output):
            try:
                main()
            except SystemExit as end:
                exit_code = int(end.code or 0)
        self.service.finish_runs(is_on=False)
        return Answer(exit_code, output.getvalue())

    def _run_curl(self, arguments: list[str]) -> None:
        request = parse_curl(arguments)
        response = self.service.send(
            httpx.Request(
                request.method,
                f"http://localhost{request.path}",
                headers=request.headers,
                content=request.body,
            )
        )
        assert response.is_success, response.text

    def _export(self, line: str) -> None:
        (text,) = replace_placeholders([line], self.state.placeholders(line))
        variables, _ = split_assignments(split_arguments(text.removeprefix("export ")))
        for name, value in variables.items():
            self._patch.setenv(name, value)
        self._exported += variables

    def _volume(self, source: str) -> str:
        """The folder of a volume or of a mounted folder."""
        if source == _HOME_VOLUME:
            return str(self.service.home)
        folder = Path(source) if source.startswith("/") else self._home / "volumes" / source
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def _empty_volumes(self) -> None:
        self.service.stop()
        for folder in (self.service.home, self._home / "volumes"):
            shutil.rmtree(folder, ignore_errors=True)
        self.service.home.mkdir()


def run_process(
    arguments: list[str], *, folder: Path, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a process that has to succeed."""
    answer = subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, f"{' '.join(arguments)}: {answer.stdout}{answer.stderr}"
    return answer


def _move_paths(arguments: list[str], folders: dict[str, str]) -> list[str]:
    """Paths inside a container as paths of this machine."""
    moved = []
    for word in arguments:
        for target, folder in folders.items():
            if word == target or word.startswith(f"{target}/"):
                word = folder + word.removeprefix(target)
                break
        moved.append(word)
    return moved


def _prepare_environment(home: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Set the variables of a new user, and write the files that the documents suppose."""
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        patch.delenv(name)
    patch.setattr(typer, "launch", lambda _url: 0)  # opens no browser
    patch.setenv("HOME", str(home))
    patch.setenv("COLUMNS", "200")
    patch.setenv("TANDEM_LOG_LEVEL", "error")
    patch.setenv("TANDEM_PORT", str(choose_free_port()))
    for part in ("RAY", "MLFLOW"):
        patch.setenv(f"TANDEM_{part}_URL", f"http://127.0.0.1:{choose_free_port()}")
    patch.chdir(folder)
    VocFolder(home / "BCCD")
    coco = CocoFolder(folder / "coco")
    coco.save()
    (folder / "annotations").mkdir()
    for split, file in (("train", coco.train_json), ("val", coco.val_json)):
        (coco.root / split).rename(folder / f"{split}2017")
        file.rename(folder / "annotations" / f"instances_{split}2017.json")
