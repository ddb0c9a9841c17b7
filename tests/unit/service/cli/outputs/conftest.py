"""The command line with a canned API."""

from pathlib import Path

import pytest

from tests.support.cli.outputs import CommandLine


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    return CommandLine(monkeypatch, tmp_path)
