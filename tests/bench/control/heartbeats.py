"""Measures heartbeats to services over one database, while many runs are queued and running."""

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import create_engine, text

from service.domain.vocabulary import EventKind
from tests.bench.control.measurement import Measurement, forget_garbage, percentile
from tests.bench.control.service import ServiceProcess, run_service
from tests.support.service.history import History, list_running_ids

CLIENTS = 16
RATE_PER_S = 100.0
"""With 1,000 running runs, one heartbeat of each in ten seconds."""

_TIMEOUT_S = 120.0
_WARM_UP_S = 5.0


@dataclass(frozen=True)
class _Client:
    """Sends the heartbeats of some runs to one service, in turns and at a constant rate."""

    url: str
    run_ids: Sequence[str]
    interval_s: float

    def send(self, duration_s: float) -> list[float]:
        """The seconds from when each heartbeat was due until its receipt; infinite if refused."""
        durations_s = []
        start_s = time.perf_counter()
        with httpx.Client(base_url=self.url, timeout=_TIMEOUT_S) as http:
            for number in range(int(duration_s / self.interval_s)):
                due_s = start_s + number * self.interval_s
                time.sleep(max(0.0, due_s - time.perf_counter()))
                run_id = self.run_ids[number % len(self.run_ids)]
                body = {"first": 0, "records": []}
                response = http.post(f"/v1/runs/{run_id}/attempts/1/deliveries", json=body)
                elapsed_s = time.perf_counter() - due_s
                durations_s.append(elapsed_s if response.is_success else math.inf)
        return durations_s


def measure_heartbeats(
    home: Path, url: str, history: History, *, services: int, duration_s: float
) -> Iterator[Measurement]:
    """Heartbeats to some services over one database, in which nothing else happens meanwhile."""
    forget_garbage()
    run_ids = list_running_ids(history)
    jobs_file = home / "jobs.txt"
    jobs_file.write_text("".join(f"{run_id}-a1\n" for run_id in run_ids), encoding="utf-8")
    first_event = _find_last_event(url)
    with ExitStack() as stack:
        running = [
            stack.enter_context(run_service(home / f"service-{number}", url, jobs_file=jobs_file))
            for number in range(services)
        ]
        _wait_for_queue(url, history.queued)
        _send_heartbeats(running, run_ids, _WARM_UP_S)
        warm_event = _find_last_event(url)
        durations_s = _send_heartbeats(running, run_ids, duration_s)
        counts = _count_events(url, first=first_event, warm=warm_event)
    row = f"{services} services, {RATE_PER_S:g} heartbeats/s"
    for share in (0.5, 0.95):
        value_ms = percentile(durations_s, share) * 1000.0
        yield Measurement(f"{row}: p{share * 100:g}", value_ms, "ms")
    refused = sum(map(math.isinf, durations_s))
    yield Measurement(f"{row}: refused", float(refused), f"of {len(durations_s)}")
    for name, count in counts.items():
        yield Measurement(f"{row}: {name}", float(count), f"in {duration_s:g} s")


def _wait_for_queue(url: str, queued: int) -> None:
    """Wait until each queued run has its first reason, and nothing remains to be written."""
    deadline_s = time.monotonic() + _TIMEOUT_S
    query = "SELECT count(*) FROM runs WHERE state = 'queued' AND waiting_for IS NOT NULL"
    while _query(url, query) < queued:
        if time.monotonic() > deadline_s:
            raise TimeoutError("the queue is not scheduled")
        time.sleep(0.5)


def _send_heartbeats(
    services: Sequence[ServiceProcess], run_ids: Sequence[str], duration_s: float
) -> list[float]:
    count = min(CLIENTS, len(run_ids))
    clients = [
        _Client(services[number % len(services)].url, run_ids[number::count], count / RATE_PER_S)
        for number in range(count)
    ]
    with ThreadPoolExecutor(count) as pool:
        durations = list(pool.map(lambda client: client.send(duration_s), clients))
    return [duration_s for of_client in durations for duration_s in of_client]


def _count_events(url: str, *, first: int, warm: int) -> dict[str, int]:
    """Events without a cause since `warm`, and those that were written again since `first`."""
    leases = "SELECT count(*) FROM events WHERE id > :warm AND kind = :kind"
    other_events = "SELECT count(*) FROM events WHERE id > :warm AND kind <> :kind"
    repeated = (
        "SELECT coalesce(sum(number - 1), 0) FROM (SELECT count(*) AS number FROM events "
        "WHERE id > :first GROUP BY run_id, kind, details, to_state) AS equal_events"
    )
    kind = EventKind.LEASE_TAKEN.value
    return {
        "leases taken without a cause": _query(url, leases, warm=warm, kind=kind),
        "other events without a cause": _query(url, other_events, warm=warm, kind=kind),
        "events written twice": _query(url, repeated, first=first),
    }


def _find_last_event(url: str) -> int:
    return _query(url, "SELECT coalesce(max(id), 0) FROM events")


def _query(url: str, statement: str, **values: object) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        number = connection.execute(text(statement), values).scalar_one()
    engine.dispose()
    return int(number)
