"""The stack that all chaos tests share, and a table of their results."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.client import TandemClient
from tests.support.service.postgres import Postgres, find_postgres, run_postgres
from tests.support.stack.chaos_stack import BROKEN, ChaosResult, ChaosStack
from tests.support.stack.quick_preset import TINY
from tests.support.stack.shell import open_shell

_DISK_MIB = 1536
RESULTS: list[ChaosResult] = []
_SETTINGS = {
    # Short timeouts: tests would wait for minutes with the defaults. A trainer stalls only after
    # more than the 20 s that its imports take with three trainers and two Ray nodes on two cores.
    "TANDEM_STALL_TIMEOUT_S": "60",
    "TANDEM_LOST_TIMEOUT_S": "15",
    "TANDEM_STOP_GRACE_S": "8",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres | None]:
    """A PostgreSQL that tests can stop; None, for SQLite, where it is not installed."""
    programs = find_postgres()
    if programs is None:
        yield None
        return
    with run_postgres(programs) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def chaos_stack(
    tmp_path_factory: pytest.TempPathFactory, server: Postgres | None
) -> Iterator[ChaosStack]:
    with pytest.MonkeyPatch.context() as patch:
        if server is not None:
            patch.setenv("TANDEM_DATABASE_URL", server.create_empty_database())
        for name, value in _SETTINGS.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("chaos")
        runs = folder / "home" / "runs"
        with _small_disk(runs), open_shell(folder) as shell:
            shell.run("up")
            shell.run("data", "digits", "--name", BROKEN, *TINY)
            for image in (folder / "home" / "datasets" / BROKEN).rglob("*.png"):
                image.write_bytes(b"no image")
            with TandemClient(shell.url) as client:
                yield ChaosStack(shell, client, runs, RESULTS)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("filling a disk needs permission to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the faults and losses of each test case; a loss other than 0 is a bug."""
    if not RESULTS:
        return
    terminalreporter.section("chaos")
    columns = ("faults", "runs", "lost", "duplicates", "missing", "recovered")
    rows: list[tuple[object, ...]] = [("case", *columns)]
    for result in [*RESULTS, _sum_results(RESULTS)]:
        counts = (result.faults, len(result.runs), result.lost, result.duplicates, result.missing)
        recovered = "" if result.recovered_s is None else f"{result.recovered_s:.1f} s"
        rows.append((result.title, *counts, recovered))
    for title, *cells in rows:
        terminalreporter.write_line(f"{title:56}" + "".join(f"{cell:>12}" for cell in cells))


def _sum_results(results: list[ChaosResult]) -> ChaosResult:
    return ChaosResult(
        title="all",
        faults=sum(result.faults for result in results),
        runs=[run for result in results for run in result.runs],
        lost=sum(result.lost for result in results),
        duplicates=sum(result.duplicates for result in results),
        missing=sum(result.missing for result in results),
    )
