"""The command line with a canned API."""

import pytest

from tests.support.cli.outputs import CommandLine


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(monkeypatch)
