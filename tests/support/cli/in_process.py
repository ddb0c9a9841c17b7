"""Calling `tandem` in this process: the same main function, without a second of imports."""

import io
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout

import pytest

from service import cli
from service.cli.session import load_settings


def call_tandem(*arguments: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Call `tandem` with additional environment variables; returns its outputs and exit code."""
    out, err, exit_code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["tandem", *arguments])
        for name, value in variables.items():
            patch.setenv(name, value)
        load_settings.cache_clear()
        try:
            cli.main()
        except SystemExit as end:
            exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
    load_settings.cache_clear()
    return subprocess.CompletedProcess(arguments, exit_code, out.getvalue(), err.getvalue())
