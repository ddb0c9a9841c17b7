"""The table of `make gpu-check` has every test, and a check without a GPU fails."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gpu import report

MODULE = '''"""Does arithmetic hold?"""

import pytest


def test_sum(record_property):
    record_property("figure", {"name": "sum", "value": 1 / 3, "unit": "of | it"})


def test_wrong():
    assert 1 == 2, "not equal"


def test_absent():
    pytest.skip("no GPU here")
'''


@dataclass(frozen=True)
class Check:
    """A finished session of pytest."""

    exit_code: int
    output: str
    files: dict[str, str]
    """Rows of the report by name."""


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Check]:
    """Runs test modules in a separate session with the plugin."""

    def run(*options: str, **modules: str) -> Check:
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        arguments = ["-c", str(tmp_path / "pytest.ini"), "-q", "-p", "no:cacheprovider", *options]
        code = pytest.main([*arguments, str(tmp_path)], plugins=[report])
        files = {file.name: file.read_text() for file in tmp_path.glob("out/*")}
        return Check(int(code), capsys.readouterr().out, files)

    return run


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Path of the report without suffix."""
    return str(tmp_path / "out" / "gpu-check")


def test_the_table_has_outcomes_figures_and_reasons(check: Callable[..., Check], path: str) -> None:
    source = "import nothing_of_this_name\n"

    checked = check(
        "--continue-on-collection-errors",
        "--gpu-report",
        path,
        test_a_broken_module=source,
        test_mixed_module=MODULE,
    )

    document = json.loads(checked.files["gpu-check.json"])
    table = checked.files["gpu-check.md"]
    rows = {row["test"]: row for row in document["tests"]}
    assert checked.exit_code == pytest.ExitCode.TESTS_FAILED
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "import": "failed",
        "test_sum": "passed",
        "test_wrong": "failed",
        "test_absent": "skipped",
    }
    assert "nothing_of_this_name" in rows["import"]["message"]
    assert rows["test_sum"]["figures"][0]["value"] == pytest.approx(1 / 3)
    assert "not equal" in rows["test_wrong"]["message"]
    assert "sum 0.333 of \\| it" in table
    assert table.count("Does arithmetic hold?") == 1
    assert "| test_absent | skipped |" in table
    assert "2 failed, 1 passed, 1 skipped; " in table
    assert table in checked.output
    assert document["machine"].keys() >= {"GPU", "torch", "CUDA", "mmcv-full"}


def test_a_check_without_a_gpu_is_no_success(check: Callable[..., Check], path: str) -> None:
    only_skips = "import pytest\n\n\ndef test_it():\n    pytest.skip('torch sees no GPU')\n"

    checked = check("--gpu-report", path, test_only_skips=only_skips)

    assert checked.exit_code == report.NOTHING_CHECKED != 0
    assert "No GPU was checked" in checked.output
    assert "torch sees no GPU" in checked.files["gpu-check.md"]


def test_without_a_path_nothing_is_reported(check: Callable[..., Check]) -> None:
    checked = check(test_only_passes="def test_it():\n    pass\n")

    assert checked.exit_code == pytest.ExitCode.OK
    assert checked.files == {}
    assert "GPU check" not in checked.output


def test_the_machine_is_described_without_a_gpu_too() -> None:
    machine = report.describe_machine()

    assert all(machine.values())
    assert {"GPU", "torch", "CUDA", "mmcv-full"} <= machine.keys()
