"""Fills databases, measures, and prints a table for each kind of database."""

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.control.databases import filled_database, run_server
from tests.bench.control.heartbeats import measure_heartbeats
from tests.bench.control.measurement import Measurement, describe_ratio
from tests.bench.control.requests import RequestCounts, measure_logs, measure_requests
from tests.bench.control.turns import measure_history, measure_queue
from tests.support.service.history import History
from tests.support.service.postgres import Postgres

SIZES = (100, 10_000, 1_000_000)
DATABASES = ("sqlite", "postgresql")
PARTS = ("history", "queue", "heartbeats")


@dataclass(frozen=True)
class Scale:
    """How much is filled and measured."""

    sizes: tuple[int, ...] = SIZES
    queue: History = History(runs=20_000, queued=10_000, running=1_000)  # noqa: RUF009
    counts: RequestCounts = RequestCounts(launches=320, log_mib=199, writer_s=3.0)  # noqa: RUF009
    heartbeats_s: float = 30.0
    """How long heartbeats are sent to each number of services."""

    services: tuple[int, ...] = (1, 2)
    """Services over one database that heartbeats are sent to."""

    parts: frozenset[str] = frozenset(PARTS)
    """What is measured."""


@dataclass
class Results:
    """The values of one table, by row and number of stored runs."""

    title: str
    sizes: tuple[int, ...]
    console: Console
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    def add(self, runs: int, measurement: Measurement) -> None:
        self.values.setdefault(measurement.row, {})[runs] = measurement.value
        self.units[measurement.row] = measurement.unit
        line = f"{self.title}, {runs:,} runs, {measurement.row}: {measurement.value:.1f}"
        self.console.print(f"{line} {measurement.unit}")

    @property
    def columns(self) -> tuple[str, ...]:
        return ("", "unit", *(f"{size:,} runs" for size in self.sizes), "ratio")

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Name, unit, the value for each size, and their ratio; empty where not measured."""
        for name, values in self.values.items():
            cells = [f"{values[size]:.1f}" if size in values else "" for size in self.sizes]
            yield (name, self.units[name], *cells, describe_ratio(values))


def measure(database: str, scale: Scale, folder: Path, console: Console) -> list[Results]:
    """Measure everything on one kind of database."""
    results = Results(database, scale.sizes, console)
    active = f"{scale.queue.queued:,} queued and {scale.queue.running:,} running runs"
    queue_results = Results(f"{database}, {active}", (scale.queue.runs,), console)
    with run_server(database) as server:
        for runs in scale.sizes if "history" in scale.parts else ():
            _measure_size(results, History(runs), scale, folder / f"{database}-{runs}", server)
        for measurement in _measure_active(scale, folder / database, server):
            queue_results.add(scale.queue.runs, measurement)
    return [item for item in (results, queue_results) if item.values]


def _measure_active(scale: Scale, home: Path, server: Postgres | None) -> Iterator[Measurement]:
    """The queue and heartbeats, with many active runs; each has a database of its own."""
    if "queue" in scale.parts:
        with filled_database(home / "queue", scale.queue, server) as (url, _):
            yield from measure_queue(home / "queue", url, scale.queue)
    for services in scale.services if "heartbeats" in scale.parts else ():
        folder = home / f"heartbeats-{services}"
        with filled_database(folder, scale.queue, server) as (url, _):
            yield from measure_heartbeats(
                folder, url, scale.queue, services=services, duration_s=scale.heartbeats_s
            )


def _measure_size(
    results: Results, history: History, scale: Scale, home: Path, server: Postgres | None
) -> None:
    with filled_database(home, history, server) as (url, fill_s):
        results.add(history.runs, Measurement("filling", fill_s, "s"))
        for measurement in measure_history(home, url):
            results.add(history.runs, measurement)
        for measurement in measure_requests(home, url, scale.counts):
            results.add(history.runs, measurement)
        if history.runs == min(scale.sizes):
            for measurement in measure_logs(home, url, scale.counts):
                results.add(history.runs, measurement)


def format_table(results: Results) -> Table:
    table = Table(title=results.title)
    for number, name in enumerate(results.columns):
        table.add_column(name, justify="left" if number < 2 else "right")
    for row in results.rows():
        table.add_row(*row)
    return table


def format_markdown(all_results: Sequence[Results]) -> str:
    """The machine, the time and all tables."""
    memory_gib = psutil.virtual_memory().total / 2**30
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d} on a machine with {os.cpu_count()} cores and "
        f"{memory_gib:.0f} GiB of memory, Python {platform.python_version()}.",
        "",
    ]
    for results in all_results:
        lines += [f"### {results.title}", "", f"| {' | '.join(results.columns)} |"]
        lines += [f"| --- | --- |{' ---: |' * (len(results.sizes) + 1)}"]
        lines += [f"| {' | '.join(row)} |" for row in results.rows()]
        lines += [""]
    return "\n".join(lines)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-control", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--running", type=int, default=1_000)
    parser.add_argument("--launches", type=int, default=320)
    parser.add_argument("--log-mib", type=int, default=199)
    parser.add_argument("--writer-s", type=float, default=3.0)
    parser.add_argument("--heartbeats-s", type=float, default=30.0)
    parser.add_argument("--services", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    arguments = parse_arguments(argv)
    runs = arguments.queued + arguments.running + 9_000
    scale = Scale(
        sizes=tuple(sorted(arguments.sizes)),
        queue=History(runs, queued=arguments.queued, running=arguments.running),
        counts=RequestCounts(arguments.launches, arguments.log_mib, arguments.writer_s),
        heartbeats_s=arguments.heartbeats_s,
        services=tuple(arguments.services),
        parts=frozenset(arguments.only),
    )
    console = Console(width=150)
    all_results: list[Results] = []
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        for database in arguments.databases:
            all_results += measure(database, scale, Path(folder), console)
            for results in all_results:
                if results.title.startswith(database):
                    console.print(format_table(results))
    if arguments.markdown is not None:
        arguments.markdown.write_text(format_markdown(all_results), encoding="utf-8")


if __name__ == "__main__":
    main()
