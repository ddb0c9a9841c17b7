"""What a trainer has imported when it ends: most of the time to its first step is imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.training.digits import write_digits
from tests.support.training.runs import TIMEOUT_S, make_spec, write_command

_PROGRAM = """
import json, sys
from workers.cli import main
try:
    main()
except SystemExit as end:
    print(json.dumps([end.code, [name for name, module in sys.modules.items() if module]]))
"""
_COMPILER = ("torch._dynamo", "torch._inductor", "sympy", "triton")
_OF_MMDET = ("matplotlib", "scipy", "sklearn", "pandas", "torchvision", "torch.utils.cpp_extension")
_OF_OTHER_JOBS = ("ray", "mlflow", "requests", "pyarrow", "onnx", "optuna", "jinja2")
_OF_COMMAND_LINES = ("httpx._main", "pygments")
_FORBIDDEN = (*_COMPILER, *_OF_MMDET, *_OF_OTHER_JOBS, *_OF_COMMAND_LINES)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), train=8, val=2)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_run_imports_no_library_that_it_does_not_use(
    tmp_path: Path, digits: Path, kind: str
) -> None:
    schedule = {"epochs": 1, "optimizer": {"kind": kind, "lr": 1e-3}}
    _, *arguments = write_command(make_spec(digits, schedule=schedule), tmp_path / "run")

    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )

    code, modules = json.loads(ended.stdout.splitlines()[-1])
    assert code == 0, ended.stderr
    assert {name for name in modules if is_part_of(name, _FORBIDDEN)} == set()


def is_part_of(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
