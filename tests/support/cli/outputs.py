"""Output of `tandem` on terminals of two widths and in a pipe, compared with stored output.

`UPDATE_GOLDEN=1 pytest tests/unit/service/cli/outputs` writes the files in tests/golden/cli anew.
"""

import io
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import service.client
import service.client_reads
from service import cli
from service.cli.session import load_settings
from service.client import TandemClient
from service.client_reads import RunReader
from tests.support.cli.canned_api import Answer, CannedApi
from tests.support.cli.json_keys import check_keys

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"
WIDTHS = (80, 120)
HOME = Path("/home/ada/.tandem")
"""TANDEM_HOME of commands that write nothing; it does not exist."""

CLIENTS = {service.client: TandemClient, service.client_reads: RunReader}
"""The clients that commands create, by module."""

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")
_UNBREAKABLE = re.compile(
    r"\b[ars][0-9a-z]{12}\b"  # ids of runs, sweeps and autopilots
    r"|\b(?=[a-f]*[0-9])[0-9a-f]{10,}\b"  # ids of tokens and requests, digests
    r"|\bhttps?://\S*[\w/=]"
)


@dataclass(frozen=True)
class Output:
    """What a command printed, to stdout and stderr, without colors."""

    text: str
    exit_code: int


def read_golden(name: str) -> dict[str, str]:
    """The stored output of tests/golden/cli/<name>.txt by `terminal, 80 columns` and so on."""
    text = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    parts = re.split(r"^\$ tandem .*    \((.+)\)\n", text, flags=re.MULTILINE)
    return {label: output.rstrip() for label, output in zip(parts[1::2], parts[2::2], strict=True)}


@dataclass(frozen=True)
class CommandLine:
    """Runs `tandem` in this process, with a canned API in place of the service."""

    monkeypatch: pytest.MonkeyPatch

    def run(
        self,
        *arguments: str,
        api: Mapping[str, Answer] | None = None,
        width: int | None = None,
        home: Path = HOME,
    ) -> Output:
        """Run a command on a terminal of `width` columns, or in a pipe if it is None."""
        with self.monkeypatch.context() as patch:
            _prepare_environment(patch, width=width, home=home)
            transport = CannedApi(api or {})

            for module, kind in CLIENTS.items():
                patch.setattr(module, kind.__name__, partial(kind, transport=transport))
            patch.setattr(sys, "argv", ["tandem", *arguments])
            return _capture_main()

    def read_json(
        self, *arguments: str, api: Mapping[str, Answer] | None = None, exit_code: int = 0
    ) -> Any:
        """Run a command with `--json` and parse its output, whose keys must be documented."""
        output = self.run(*arguments, "--json", api=api)
        assert output.exit_code == exit_code, output.text
        document = json.loads(output.text)
        check_keys(arguments, document)
        return document

    def check(
        self, name: str, *arguments: str, api: Mapping[str, Answer] | None = None
    ) -> dict[str, Output]:
        """Compare the output at each width with tests/golden/cli/<name>.txt.

        Ids and addresses that the pipe shows must be on one line of each terminal, too.
        """
        outputs = {
            f"terminal, {width} columns": self.run(*arguments, api=api, width=width)
            for width in WIDTHS
        }
        piped = outputs["pipe"] = self.run(*arguments, api=api)
        for label, output in outputs.items():
            broken = [word for word in _UNBREAKABLE.findall(piped.text) if word not in output.text]
            assert broken == [], f"{label} breaks or drops ids or addresses"
        _compare(GOLDEN / f"{name}.txt", _format_document(arguments, outputs))
        return outputs


def _prepare_environment(patch: pytest.MonkeyPatch, *, width: int | None, home: Path) -> None:
    for variable in list(os.environ):
        if variable.startswith("TANDEM_") or variable in ("FORCE_COLOR", "NO_COLOR", "LINES"):
            patch.delenv(variable)
    patch.setenv("TANDEM_HOME", str(home))
    patch.setenv("TANDEM_TOKEN_FILE", str(home / "no-token"))
    patch.setenv("TERM", "xterm")
    patch.setenv("TTY_COMPATIBLE", "0" if width is None else "1")
    patch.setenv("COLUMNS", str(width or 80))
    patch.setenv("TZ", "UTC")
    time.tzset()
    load_settings.cache_clear()


def _capture_main() -> Output:
    buffer, exit_code = io.StringIO(), 0
    with redirect_stdout(buffer), redirect_stderr(buffer):
        try:
            cli.main()
        except SystemExit as error:
            exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
    return Output(render_screen(buffer.getvalue()), exit_code)


def render_screen(text: str) -> str:
    """The lines that remain on a terminal: without colors, and without what was erased."""
    lines, row = [""], 0
    for argument, command, newline, characters in _TOKEN.findall(text):
        if characters:
            lines[row] += characters
        elif newline == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif command == "A":
            row = max(0, row - int(argument or 1))
        elif command == "K":
            lines[row] = ""
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def _format_document(arguments: Sequence[str], outputs: Mapping[str, Output]) -> str:
    parts = []
    for label, output in outputs.items():
        code = f", exit code {output.exit_code}" if output.exit_code else ""
        parts.append(f"$ tandem {' '.join(arguments)}    ({label}{code})\n{output.text}")
    return "\n".join(parts)


def _compare(file: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert file.exists(), f"{file.name} is missing: {__doc__}"
    assert text == file.read_text(encoding="utf-8"), __doc__
