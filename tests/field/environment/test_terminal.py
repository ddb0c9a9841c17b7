"""Terminals with a small character set, names that no encoding has, users without a home."""

import io
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from pydantic import ValidationError

from configs.terminal_output import escape_unprintable
from service.cli import session
from service.cli.console import error_output, output, print_json
from service.settings import Settings
from workers.process.home_folder import ensure_home

TANDEM = Path(sys.executable).parent / "tandem"
NAME = "猫\udcff.zip"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_any_text_can_be_printed(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, encoding=encoding))

    escape_unprintable()
    typer.echo(NAME)
    print_json({"name": NAME})
    for console in (output(), error_output()):
        console.print(f"✔ {NAME}")
    sys.stdout.flush()
    sys.stderr.flush()

    assert r"\udcff.zip" in written.getvalue().decode(encoding, errors="replace")


def run_tandem(*arguments: str, env: dict[str, str]) -> str:
    result = subprocess.run(
        [str(TANDEM), *arguments], env=env, capture_output=True, timeout=120, check=False
    )
    text = (result.stdout + result.stderr).decode("ascii", errors="replace")
    assert result.returncode in (1, 2)
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_a_command_names_what_the_terminal_cannot_print(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    env = {"PATH": os.environ["PATH"], "TANDEM_HOME": str(tmp_path), "LANG": "C", **variables}

    assert r"\u732b\udcff.zip" in run_tandem("restore", NAME, env=env)


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is in no list of users, without HOME."""

    def raise_without_entry(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", raise_without_entry)
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")


@pytest.mark.usefixtures("no_home")
def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_HOME", raising=False)

    with pytest.raises(ValidationError, match=r"Could not determine home.*set TANDEM_HOME"):
        Settings()


@pytest.mark.usefixtures("no_home")
def test_a_user_without_a_home_needs_only_tandem_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session, "load_settings", lambda: Settings(home=tmp_path))

    assert session.load_token() is None


@pytest.mark.usefixtures("no_home")
def test_a_worker_without_a_home_gets_a_temporary_one() -> None:
    ensure_home()

    home = Path(os.environ["HOME"])
    assert home.is_dir()
    assert home.stat().st_mode & 0o077 == 0
    home.rmdir()


def test_a_worker_keeps_its_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    ensure_home()

    assert os.environ["HOME"] == str(tmp_path)
