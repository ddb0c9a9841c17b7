"""One stack for all acts, and the table at the end."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.client import TandemClient
from tests.support.service.postgres import Postgres, a_postgres, where_postgres_is
from tests.support.stack.chaos_stack import BROKEN, Act, Theatre
from tests.support.stack.quick_preset import TINY
from tests.support.stack.shell import own_shell

_DISK_MIB = 1536
ACTS: list[Act] = []
_SETTINGS = {
    # Short patience: what takes minutes by default is to be seen here in seconds.
    "TANDEM_STALL_TIMEOUT_S": "20",
    "TANDEM_LOST_TIMEOUT_S": "15",
    "TANDEM_STOP_GRACE_S": "8",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres | None]:
    """A database that can be taken away; none, and SQLite instead, where it is not installed."""
    programs = where_postgres_is()
    if programs is None:
        yield None
        return
    with a_postgres(programs) as found:
        yield found


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory, server: Postgres | None) -> Iterator[Theatre]:
    with pytest.MonkeyPatch.context() as patch:
        if server is not None:
            patch.setenv("TANDEM_DATABASE_URL", server.empty())
        for name, value in _SETTINGS.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("chaos")
        runs = folder / "home" / "runs"
        with _small_disk(runs), own_shell(folder) as shell:
            shell.does("up")
            shell.does("data", "digits", "--name", "digits-tiny", *TINY)
            shell.does("data", "digits", "--name", BROKEN, *TINY)
            for image in (folder / "home" / "datasets" / BROKEN).rglob("*.png"):
                image.write_bytes(b"no image")
            with TandemClient(shell.url) as client:
                yield Theatre(shell, client, runs, ACTS)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a small disk to fill up needs the right to mount one")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Faults, runs and losses: all zeros, or something is to be mended."""
    if not ACTS:
        return
    terminalreporter.section("chaos")
    columns = ("faults", "runs", "lost", "doubled", "missing")
    say = terminalreporter.write_line
    say(f"{'case':56}" + "".join(f"{column:>9}" for column in columns) + f"{'back after':>12}")
    for act in [*ACTS, _all_of(ACTS)]:
        figures = (act.faults, len(act.runs), act.lost, act.doubled, act.missing)
        after = "" if act.recovered_s is None else f"{act.recovered_s:.1f} s"
        say(f"{act.title:56}" + "".join(f"{figure:9}" for figure in figures) + f"{after:>12}")


def _all_of(acts: list[Act]) -> Act:
    return Act(
        title="all",
        faults=sum(act.faults for act in acts),
        runs=[run for act in acts for run in act.runs],
        lost=sum(act.lost for act in acts),
        doubled=sum(act.doubled for act in acts),
        missing=sum(act.missing for act in acts),
    )
