"""A process on a real terminal and in a real pipe prints what is stored."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from tests.support.cli.outputs import WIDTHS, read_golden, render_screen

_COMMAND = [sys.executable, "-m", "service.cli", "teachers", "known"]
_ENV = {
    key: value
    for key, value in os.environ.items()
    if key not in ("COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR")
} | {"TERM": "xterm-256color"}


@pytest.mark.parametrize("width", WIDTHS)
def test_a_terminal_shows_the_stored_output(width: int) -> None:
    output = run_on_terminal(width)

    assert "\x1b[" in output, "a terminal gets colors"
    assert render_screen(output).rstrip() == read_golden("teachers_known")[label(width)]


def test_a_pipe_gets_the_stored_output_whatever_the_width_of_the_terminal() -> None:
    ended = subprocess.run(
        _COMMAND, env=_ENV | {"COLUMNS": "40"}, capture_output=True, text=True, check=True
    )

    assert ended.stdout.rstrip() == read_golden("teachers_known")["pipe"]


def label(width: int) -> str:
    return f"terminal, {width} columns"


def run_on_terminal(width: int) -> str:
    """Output of the command on a pseudo-terminal."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    process = subprocess.Popen(_COMMAND, env=_ENV, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    chunks = []
    while chunk := _read(controller):
        chunks.append(chunk)
    os.close(controller)
    assert process.wait() == 0
    return b"".join(chunks).decode()


def _read(terminal: int) -> bytes:
    """The next output; empty when the process has closed the terminal, an error on Linux."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
