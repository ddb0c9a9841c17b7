"""The table of `make gpu-check`: what each test measured, on which GPU, and how long it took.

A plugin of pytest, which is loaded by `-p tests.support.gpu.report`. With
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
"""What a whole check may take on one GPU."""

_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_PACKAGES = ("mmcv-full", "mmdet", "numpy")


@dataclass
class Row:
    """One test."""

    step: str
    """The question that its module answers."""

    test: str
    outcome: str = "passed"
    seconds: float = 0.0
    """Fixtures included."""

    figures: list[dict[str, Any]] = field(default_factory=list)
    """Each with `name`, `value` and `unit`."""

    message: str = ""
    """Why it was skipped or failed, in a line."""


class GpuReport:
    """Collects pytest's reports of tests, and writes the table."""

    def __init__(self, path: Path, *, machine: dict[str, str]) -> None:
        self._path = path
        self._machine = machine
        self._steps: dict[str, str] = {}
        self._rows: dict[str, Row] = {}
        self._began_s = time.monotonic()
        self._ended_s: float | None = None

    @property
    def rows(self) -> list[Row]:
        """In the order in which the tests ran."""
        return list(self._rows.values())

    @property
    def has_checked(self) -> bool:
        """Whether any test has said something about a GPU."""
        return any(row.outcome != "skipped" for row in self.rows)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Remember what the test's module is about."""
        document = getattr(getattr(item, "module", None), "__doc__", None) or item.nodeid
        self._steps[item.nodeid] = document.strip().splitlines()[0]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be imported is a failure among the others."""
        if report.failed:
            row = Row(report.nodeid, "import", "failed", message=_last_line(report.longreprtext))
            self._rows[report.nodeid] = row

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test: its set-up, itself, or what follows."""
        row = self._rows.setdefault(report.nodeid, self._new_row(report.nodeid))
        row.seconds += report.duration
        if not report.passed:
            row.outcome = report.outcome
            row.message = _reason_of(report)
        if report.when == "teardown":
            properties: list[tuple[str, Any]] = report.user_properties
            row.figures = [value for name, value in properties if name == "figure"]
            self.write()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table."""
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
        """A check of nothing is no success."""
        self._ended_s = time.monotonic()  # The file and the terminal show the same seconds.
        self.write()
        if exitstatus == pytest.ExitCode.OK and not self.has_checked:
            session.exitstatus = NOTHING_CHECKED

    def write(self) -> None:
        """Write both files."""
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
        """The machine, a line for each test, and the sum."""
        return "\n".join(_markdown_lines(self.rows, self._machine, self._elapsed_s())) + "\n"

    def _elapsed_s(self) -> float:
        now_s = time.monotonic() if self._ended_s is None else self._ended_s
        return now_s - self._began_s

    def _new_row(self, nodeid: str) -> Row:
        return Row(self._steps.get(nodeid, nodeid), nodeid.rpartition("::")[2])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the files go."""
    parser.addoption("--gpu-report", type=Path, help="Path of the files, without their suffixes.")


def pytest_configure(config: pytest.Config) -> None:
    """Report if a path is given."""
    path = config.getoption("--gpu-report")
    if path is not None:
        config.pluginmanager.register(GpuReport(path, machine=describe_machine()), "gpu-report")


def describe_machine() -> dict[str, str]:
    """The GPU and every version that its numbers depend on."""
    facts = {"python": platform.python_version(), "torch": torch.__version__}
    facts |= {name: _version_of(name) for name in _PACKAGES}
    facts["CUDA"] = torch.version.cuda or "none"
    if not torch.cuda.is_available():
        return {"GPU": "none", **facts}
    properties = torch.cuda.get_device_properties(0)
    return {
        "GPU": f"{torch.cuda.device_count()} x {properties.name}",
        "compute capability": f"{properties.major}.{properties.minor}",
        "memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "driver": _driver_version(),
        **facts,
        "cuDNN": str(torch.backends.cudnn.version()),
        "NCCL": ".".join(map(str, torch.cuda.nccl.version())),
    }


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _driver_version() -> str:
    if _DRIVER_FILE.is_file():
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", _DRIVER_FILE.read_text(encoding="utf-8"))
        if found is not None:
            return found[0]
    question = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def _markdown_lines(rows: list[Row], machine: dict[str, str], elapsed_s: float) -> Iterator[str]:
    yield ", ".join(f"{name}: {value}" for name, value in machine.items())
    yield ""
    yield "| step | test | outcome | s | figures |"
    yield "| --- | --- | --- | ---: | --- |"
    step = None
    for row in rows:
        shown = "" if row.step == step else row.step
        step = row.step
        words = [*map(_figure_in_words, row.figures), *([row.message] if row.message else [])]
        cells = (shown, row.test, row.outcome, f"{row.seconds:.1f}", "; ".join(words))
        yield "| " + " | ".join(_cell(cell) for cell in cells) + " |"
    counts = {row.outcome: 0 for row in rows}
    for row in rows:
        counts[row.outcome] += 1
    total = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "no tests"
    yield ""
    excess = " (TOO LONG)" if elapsed_s > BUDGET_S else ""
    yield f"{total}; {elapsed_s:.0f} s of {BUDGET_S} s{excess}."


def _figure_in_words(figure: dict[str, Any]) -> str:
    value = figure["value"]
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"{figure['name']} {shown} {figure['unit']}".rstrip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _reason_of(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return _last_line(report.longreprtext) if crash is None else crash.message.splitlines()[0]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
