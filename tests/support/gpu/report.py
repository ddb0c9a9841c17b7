"""The table of `make gpu-check`: measurements, GPU and duration of each test.

A pytest plugin, which is loaded by `-p tests.support.gpu.report`. With
`--gpu-report build/gpu-check` it writes build/gpu-check.json and build/gpu-check.md again after
each test, so that an interrupted check leaves its results. Without a GPU the exit code is
`NOTHING_CHECKED`.
"""

import json
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch

NOTHING_CHECKED = int(pytest.ExitCode.NO_TESTS_COLLECTED)
"""The exit code where no test has passed or failed: there is no GPU."""

BUDGET_S = 600
"""Maximum duration of a check on one GPU."""

_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_PACKAGES = ("mmcv-full", "mmdet", "numpy")


@dataclass
class ReportRow:
    """The table row of a test."""

    step: str
    """First line of its module's docstring."""

    test: str
    outcome: str = "passed"
    seconds: float = 0.0
    """Duration including fixtures."""

    figures: list[dict[str, Any]] = field(default_factory=list)
    """Each with `name`, `value` and `unit`."""

    message: str = ""
    """Why it was skipped or failed; one line."""


class GpuCheckReport:
    """Collects pytest's reports of tests, and writes the table."""

    def __init__(self, path: Path, *, machine: dict[str, str]) -> None:
        self._path = path
        self._machine = machine
        self._steps: dict[str, str] = {}
        self._rows: dict[str, ReportRow] = {}
        self._start_s = time.monotonic()
        self._end_s: float | None = None

    @property
    def rows(self) -> list[ReportRow]:
        return list(self._rows.values())

    @property
    def has_checked(self) -> bool:
        """Whether any test has run on a GPU."""
        return any(row.outcome != "skipped" for row in self.rows)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Store the first line of the docstring of the test's module."""
        document = getattr(getattr(item, "module", None), "__doc__", None) or item.nodeid
        self._steps[item.nodeid] = document.strip().splitlines()[0]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Report a module that cannot be imported as a failed test."""
        if report.failed:
            row = ReportRow(
                report.nodeid, "import", "failed", message=_last_line(report.longreprtext)
            )
            self._rows[report.nodeid] = row

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the duration and outcome of a phase: setup, call or teardown."""
        row = self._rows.setdefault(report.nodeid, self._new_row(report.nodeid))
        row.seconds += report.duration
        if not report.passed:
            row.outcome = report.outcome
            row.message = _find_reason(report)
        if report.when == "teardown":
            properties: list[tuple[str, Any]] = report.user_properties
            row.figures = [value for name, value in properties if name == "figure"]
            self.write()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and a warning if no GPU was checked."""
        terminalreporter.section("GPU check")
        terminalreporter.write_line(self.markdown())
        terminalreporter.write_line(f"Written to {self._path}.md and {self._path}.json.")
        if not self.has_checked:
            terminalreporter.write_line(
                f"No GPU was checked: torch {torch.__version__} sees none. Exit code "
                f"{NOTHING_CHECKED}.",
                red=True,
            )

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Set the exit code `NOTHING_CHECKED` if no test has run on a GPU."""
        self._end_s = time.monotonic()  # The file and the terminal show the same seconds.
        self.write()
        if exitstatus == pytest.ExitCode.OK and not self.has_checked:
            session.exitstatus = NOTHING_CHECKED

    def write(self) -> None:
        """Write the table as Markdown and JSON."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{self._path}.md").write_text(self.markdown(), encoding="utf-8")
        document = {
            "machine": self._machine,
            "seconds": self._elapsed_s(),
            "budget_seconds": BUDGET_S,
            "tests": [asdict(row) for row in self.rows],
        }
        Path(f"{self._path}.json").write_text(
            json.dumps(document, indent=2) + "\n", encoding="utf-8"
        )

    def markdown(self) -> str:
        """Format the machine, a row for each test, and the total."""
        return "\n".join(_markdown_lines(self.rows, self._machine, self._elapsed_s())) + "\n"

    def _elapsed_s(self) -> float:
        now_s = time.monotonic() if self._end_s is None else self._end_s
        return now_s - self._start_s

    def _new_row(self, nodeid: str) -> ReportRow:
        return ReportRow(self._steps.get(nodeid, nodeid), nodeid.rpartition("::")[2])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu-report", type=Path, help="Path of the files, without their suffixes.")


def pytest_configure(config: pytest.Config) -> None:
    """Register the report if a path is given."""
    path = config.getoption("--gpu-report")
    if path is not None:
        config.pluginmanager.register(
            GpuCheckReport(path, machine=describe_machine()), "gpu-report"
        )


def describe_machine() -> dict[str, str]:
    """Describe the GPU and the versions of all libraries that affect its results."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {name: _find_version(name) for name in _PACKAGES}
    versions["CUDA"] = torch.version.cuda or "none"
    if not torch.cuda.is_available():
        return {"GPU": "none", **versions}
    properties = torch.cuda.get_device_properties(0)
    return {
        "GPU": f"{torch.cuda.device_count()} x {properties.name}",
        "compute capability": f"{properties.major}.{properties.minor}",
        "memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "driver": _read_driver_version(),
        **versions,
        "cuDNN": str(torch.backends.cudnn.version()),
        "NCCL": ".".join(map(str, torch.cuda.nccl.version())),
    }


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _read_driver_version() -> str:
    if _DRIVER_FILE.is_file():
        match = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", _DRIVER_FILE.read_text(encoding="utf-8"))
        if match is not None:
            return match[0]
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return result.stdout.strip()


def _markdown_lines(
    rows: list[ReportRow], machine: dict[str, str], elapsed_s: float
) -> Iterator[str]:
    yield ", ".join(f"{name}: {value}" for name, value in machine.items())
    yield ""
    yield "| step | test | outcome | s | figures |"
    yield "| --- | --- | --- | ---: | --- |"
    step = None
    for row in rows:
        step_cell = "" if row.step == step else row.step
        step = row.step
        parts = [*map(_format_figure, row.figures), *([row.message] if row.message else [])]
        cells = (step_cell, row.test, row.outcome, f"{row.seconds:.1f}", "; ".join(parts))
        yield "| " + " | ".join(_escape_cell(cell) for cell in cells) + " |"
    counts = {row.outcome: 0 for row in rows}
    for row in rows:
        counts[row.outcome] += 1
    total = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "no tests"
    yield ""
    excess = " (TOO LONG)" if elapsed_s > BUDGET_S else ""
    yield f"{total}; {elapsed_s:.0f} s of {BUDGET_S} s{excess}."


def _format_figure(figure: dict[str, Any]) -> str:
    value = figure["value"]
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"{figure['name']} {text} {figure['unit']}".rstrip()


def _escape_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _find_reason(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return _last_line(report.longreprtext) if crash is None else crash.message.splitlines()[0]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
