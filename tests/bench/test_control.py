"""The program of `make bench-control`, with very small databases."""

from pathlib import Path

import pytest

from tests.bench.control.__main__ import main

TINY = "--queued 20 --running 10 --launches 16 --log-mib 2 --writer-s 0.2 --heartbeats-s 0.5"
ROWS = (
    *("settle turn", "compare turn", "/metrics", "/readyz", "runs: state=failed", "runs: tag"),
    *("launches, 1 clients", "launches, 16 clients: p99", "memory of the service"),
    *("read beside a writer of 0.2 s: slowest", "log of 2 MiB, 4 readers: added memory"),
    *("queue turn, at rest", "reconcile: rows of runs"),
    *("1 services, 100 heartbeats/s: p95", "2 services, 100 heartbeats/s: events written twice"),
)


@pytest.mark.slow
def test_every_row_is_measured_on_sqlite(tmp_path: Path) -> None:
    assert measure("sqlite", tmp_path, sizes="100") >= {*ROWS}


@pytest.mark.slow
def test_every_row_is_measured_on_both_databases(tmp_path: Path) -> None:
    for database in ("sqlite", "postgresql"):
        assert measure(database, tmp_path, sizes="100 200") >= {*ROWS}


def measure(database: str, folder: Path, *, sizes: str) -> set[str]:
    """The names of the rows that have a value."""
    file = folder / f"{database}.md"
    argv = f"--sizes {sizes} --databases {database} {TINY} --markdown {file}"
    main(argv.split())
    lines = [line.split(" | ") for line in file.read_text(encoding="utf-8").splitlines()]
    return {cells[0].removeprefix("| ") for cells in lines if len(cells) > 2 and cells[2].strip()}
