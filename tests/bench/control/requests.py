"""Measures requests to the service as a process: launches, reads beside a writer, logs, memory."""

import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from sqlalchemy import Connection, create_engine, event, text

from service.adapters.log_store import LocalLogStore
from service.settings import Settings
from tests.bench.control.measurement import Measurement, forget_garbage, percentile
from tests.bench.control.service import ServiceProcess, run_service
from tests.support.factories import (
    CLASSES,
    make_bckd_spec,
    make_detector_spec,
    write_checkpoint,
    write_dataset,
)
from tests.support.service.history import PROJECT, make_run_id

CLIENTS = (1, 16)
_TIMEOUT_S = 120.0
_READS = 20
_UNAVAILABLE = 503


@dataclass(frozen=True)
class RequestCounts:
    """How much is measured."""

    launches: int
    """By each number of clients."""

    log_mib: int
    writer_s: float
    """How long a writer keeps its transaction open."""


def measure_requests(home: Path, url: str, counts: RequestCounts) -> Iterator[Measurement]:
    """Launches, reads beside a writer, and the memory of the service."""
    forget_garbage()
    with run_service(home, url) as service:
        with httpx.Client(base_url=service.url, timeout=_TIMEOUT_S) as http:
            _register(http, home)
            _launch(http)
        for clients in CLIENTS:
            yield from _measure_launches(service, clients, counts.launches)
        yield from _measure_reads(service, url, writer_s=counts.writer_s)
        yield Measurement("memory of the service", service.rss_mib, "MiB")


def measure_logs(home: Path, url: str, counts: RequestCounts) -> Iterator[Measurement]:
    """The peak memory of the service while clients read the whole log of a run."""
    run_id = make_run_id(11)
    _write_log(home, run_id, counts.log_mib)
    with run_service(home, url) as service:
        httpx.get(f"{service.url}/v1/runs/{run_id}", timeout=_TIMEOUT_S).raise_for_status()
        before, log_url = service.rss_mib, f"{service.url}/v1/runs/{run_id}/logs"
        for readers in (1, 4):
            service.forget_peak()
            with ThreadPoolExecutor(readers) as pool:
                sizes = list(pool.map(_read_log, [log_url] * readers))
            name = f"log of {counts.log_mib} MiB, {readers} readers: added memory"
            yield Measurement(name, service.peak_rss_mib - before, "MiB")
        yield Measurement("log: first answer", sizes[0] / 2**20, "MiB")


def _register(http: httpx.Client, home: Path) -> None:
    root = write_dataset(home / "datasets" / "pets")
    http.post("/v1/datasets", json={"root": str(root), "name": "pets"}).raise_for_status()
    teacher = {
        "name": "big",
        "checkpoint": str(write_checkpoint(home / "teachers" / "big.pth")),
        "detector": make_detector_spec().model_dump(mode="json"),
        "classes": list(CLASSES),
    }
    http.post("/v1/teachers", json=teacher).raise_for_status()


def _launch(http: httpx.Client) -> float:
    """Launch a distilled run, whose baseline is there, and return the seconds it took.

    Infinite if the database did not answer in time.
    """
    start_s = time.perf_counter()
    body = {"spec": make_bckd_spec(tags={"team": "t1"}), "project": PROJECT}
    response = http.post("/v1/runs", json=body)
    if response.status_code != _UNAVAILABLE:
        response.raise_for_status()
    return (time.perf_counter() - start_s) if response.is_success else math.inf


def _measure_launches(
    service: ServiceProcess, clients: int, launches: int
) -> Iterator[Measurement]:
    def launch_many(_: int) -> list[float]:
        with httpx.Client(base_url=service.url, timeout=_TIMEOUT_S) as http:
            return [_launch(http) for _ in range(launches // clients)]

    cpu_s, start_s = service.cpu_s, time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        durations_s = [
            duration for many in pool.map(launch_many, range(clients)) for duration in many
        ]
    elapsed_s = time.perf_counter() - start_s
    name = f"launches, {clients} clients"
    yield Measurement(name, sum(map(math.isfinite, durations_s)) / elapsed_s, "/s")
    yield Measurement(f"{name}: p99", percentile(durations_s, 0.99) * 1000.0, "ms")
    cpu_ms = (service.cpu_s - cpu_s) * 1000.0 / len(durations_s)
    yield Measurement(f"{name}: CPU of the service", cpu_ms, "ms each")


def _measure_reads(service: ServiceProcess, url: str, *, writer_s: float) -> Iterator[Measurement]:
    with httpx.Client(base_url=service.url, timeout=_TIMEOUT_S) as http:

        def read() -> float:
            start_s = time.perf_counter()
            http.get(f"/v1/runs/{make_run_id(11)}").raise_for_status()
            return time.perf_counter() - start_s

        idle_durations_s = [read() for _ in range(_READS)]
        with ThreadPoolExecutor(1) as pool:
            with _open_writer(url):
                reads = pool.submit(_repeat, read, time.perf_counter() + writer_s)
                time.sleep(writer_s)
            durations_s = reads.result()
    yield Measurement("read", median(idle_durations_s) * 1000.0, "ms")
    name = f"read beside a writer of {writer_s:g} s: slowest"
    yield Measurement(name, max(durations_s) * 1000.0, "ms")


def _repeat(step: Callable[[], float], deadline_s: float) -> list[float]:
    durations_s = [step()]
    while time.perf_counter() < deadline_s:
        durations_s.append(step())
    return durations_s


@contextmanager
def _open_writer(url: str) -> Iterator[None]:
    """A transaction that has changed a row, and is rolled back at the end."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _disable_implicit_begin)
        event.listen(engine, "begin", _begin_immediate)
    with engine.connect() as connection:
        connection.execute(text("UPDATE runs SET message = 'changed' WHERE sequence = 12"))
        yield
        connection.rollback()
    engine.dispose()


def _disable_implicit_begin(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _write_log(home: Path, run_id: str, mib: int) -> None:
    store = LocalLogStore(Settings(home=home).logs_dir)
    line = b"epoch 1, step 10, loss 0.123456, lr 0.001\n"
    part = line * (2**20 // len(line))
    for number in range(mib):
        store.append(run_id, 1, offset=number * len(part), content=part)


def _read_log(url: str) -> int:
    """Read the answer without keeping it; returns its size in bytes."""
    with httpx.stream("GET", url, timeout=_TIMEOUT_S) as response:
        return sum(len(part) for part in response.iter_bytes())
