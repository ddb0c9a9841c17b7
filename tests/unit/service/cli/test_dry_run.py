"""A dry run of an import passes on what the worker says, and registers nothing."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import create_app


@pytest.mark.parametrize("code", [0, 10])
def test_a_dry_run_registers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    worker = tmp_path / "bin" / "tandem-worker"
    worker.parent.mkdir()
    worker.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nexit {code}\n')
    worker.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(worker.parent / "python"))
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    command = ["data", "import-voc", "--name", "pets", "--root", "/theirs", "--dry-run"]

    result = CliRunner().invoke(create_app(), command)

    arguments = (tmp_path / "arguments").read_text().split()
    assert result.exit_code == code
    assert arguments[:2] == ["data", "import-voc"]
    assert "--dry-run" in arguments
    assert not list((tmp_path / "home").glob("datasets/*"))
