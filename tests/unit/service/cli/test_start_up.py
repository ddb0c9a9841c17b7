"""Modules that a command imports: most of its time is their import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import json, sys
sys.argv = ["tandem", *sys.argv[1:]]
from service.cli.__main__ import main
try:
    main()
except SystemExit:
    pass
print(json.dumps([name for name, module in sys.modules.items() if module]), file=sys.stderr)
"""

_SERVER = ("fastapi", "uvicorn", "prometheus_client", "opentelemetry", "limits", "service.main")
_DATABASE = ("sqlalchemy", "alembic", "service.store")
_COMMANDS = ("service.cli.demo", "service.cli.jobs", "service.cli.sweeps", "service.cli.teachers")
_SPECS = ("configs.spec.run", "configs.spec.jobs", "service.client", "service.api.schemas.sweeps")
_HEAVY = ("httpx._main", "markdown_it", "service.usecases", "mlflow", "ray", "torch")
_READS_RUNS = (*_SERVER, *_DATABASE, *_HEAVY, *_SPECS, *_COMMANDS, "structlog", "yaml", "pygments")
"""What a command imports neither for a list of runs nor for one of them."""


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (("--help",), ("pydantic", "rich", "httpx", "yaml", "hashlib")),
        (("--version",), ("pydantic", "rich", "httpx")),
        (("runs",), (*_READS_RUNS, "service.domain.runs")),
        (("show", "r0"), _READS_RUNS),
        (("status",), (*_SERVER, *_DATABASE, *_HEAVY, "structlog", "service.api")),
        (("tokens", "list"), (*_SERVER, "httpx._main", "service.api")),
    ],
    ids=["help", "version", "runs", "show", "status", "tokens"],
)
def test_a_command_does_not_import_what_it_does_not_need(
    tmp_path: Path, arguments: tuple[str, ...], forbidden: tuple[str, ...]
) -> None:
    modules = imported_modules(*arguments, home=tmp_path)

    assert "service.cli.console" in modules
    assert {name for name in modules if is_part_of(name, forbidden)} == set()


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("service.doctor", (*_DATABASE, "structlog", "torch")),
        ("workers.cli", ("pydantic", "httpx", "yaml", "torch", "mmcv")),
        ("configs.spec.base", ("configs.spec.run", "configs.spec.sweep")),
    ],
)
def test_a_module_that_slow_checks_wait_for_imports_little(
    module: str, forbidden: tuple[str, ...]
) -> None:
    program = f"import json, sys, {module}; print(json.dumps([*sys.modules]))"
    printed = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=120)

    assert {name for name in json.loads(printed) if is_part_of(name, forbidden)} == set()


def is_part_of(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def imported_modules(*arguments: str, home: Path) -> set[str]:
    """Names of the modules in a process after a command that reaches no service."""
    nowhere = "http://127.0.0.1:1"
    env = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
    env |= {"TANDEM_HOME": str(home), "TANDEM_PORT": "1", "TANDEM_TOKEN_FILE": str(home / "none")}
    env |= {"TANDEM_RAY_URL": nowhere, "TANDEM_MLFLOW_URL": nowhere}
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    names: list[str] = json.loads(ended.stderr.splitlines()[-1])
    return set(names)
