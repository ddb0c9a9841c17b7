"""Totals of runs and attempts equal counts over all rows, whatever transactions do at once."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from configs.protocol.failure import FailureReason
from service.domain.metrics.series import ResourceTotals
from service.domain.repositories.runs import Attempts
from service.domain.runs import Attempt
from service.domain.states import RunState
from service.store.database import Database
from tests.support.factories import make_run
from tests.support.service.run_counts import count_rows

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def test_runs_are_counted_by_state_and_project(database: Database) -> None:
    with database.transaction() as uow:
        for number in range(3):
            uow.runs.add(make_run(id=f"r{number}", project="a" if number else "b"))
    with database.transaction() as uow:
        uow.runs.save(replace(uow.runs.get_for_update("r1"), state=RunState.FAILED))
        uow.runs.save(replace(uow.runs.get_for_update("r0"), message="changed"))

    with database.transaction() as uow:
        assert uow.metrics.count_runs() == {
            (RunState.QUEUED, "a"): 1,
            (RunState.FAILED, "a"): 1,
            (RunState.QUEUED, "b"): 1,
        }
        assert uow.metrics.list_projects() == ["a", "b"]


def test_a_transaction_that_fails_counts_nothing(database: Database) -> None:
    with suppress(ZeroDivisionError), database.transaction() as uow:
        uow.runs.add(make_run())
        raise ZeroDivisionError

    with database.transaction() as uow:
        assert uow.metrics.count_runs() == {}


def test_transactions_at_once_count_every_change_once(database: Database) -> None:
    ids = [f"r{number:02}" for number in range(16)]
    with database.transaction() as uow:
        for run_id in ids:
            uow.runs.add(make_run(id=run_id, project=run_id[-1]))

    def change(first: int) -> None:
        """Move runs to several states, in an order that differs between threads."""
        mine = ids[first::4]
        for state in (RunState.STARTING, RunState.RUNNING, RunState.FAILED, RunState.QUEUED):
            for run_id in mine if first % 2 else mine[::-1]:
                with database.transaction() as uow:
                    uow.runs.save(replace(uow.runs.get_for_update(run_id), state=state))
        with database.transaction() as uow:
            for run_id in mine:
                uow.runs.save(replace(uow.runs.get_for_update(run_id), state=RunState.PAUSED))

    run_in_threads(change, threads=4)

    with database.transaction() as uow:
        assert uow.metrics.count_runs() == count_rows(uow)
        assert set(uow.metrics.count_runs().values()) <= {1, 2}


def test_attempts_are_counted_with_what_they_used(database: Database) -> None:
    with database.transaction() as uow:
        uow.runs.add(make_run(project="p"))
        for number in (1, 2, 3):
            uow.attempts.add(make_attempt(make_run().id, number, num_cpus=2, num_gpus=1))
    with database.transaction() as uow:
        end_attempt(uow.attempts, make_run().id, 1, reason=FailureReason.NAN_LOSS)
        end_attempt(uow.attempts, make_run().id, 2)
    with database.transaction() as uow:
        end_attempt(uow.attempts, make_run().id, 2)  # once more

    with database.transaction() as uow:
        assert uow.metrics.count_attempts_by_reason() == {"nan_loss": 1, None: 1}
        assert uow.metrics.ended_totals() == {"p": ResourceTotals(cpu_s=40.0, gpu_s=20.0)}


def test_a_pack_whose_members_end_at_once_is_counted_once(database: Database) -> None:
    ids = [f"r{number}" for number in range(4)]
    with database.transaction() as uow:
        for run_id in ids:
            uow.runs.add(make_run(id=run_id))
            uow.attempts.add(make_attempt(run_id, 1, pack_job="pack"))

    def end(number: int) -> None:
        with database.transaction() as uow:
            end_attempt(uow.attempts, ids[number], 1)

    run_in_threads(end, threads=4)

    with database.transaction() as uow:
        assert uow.metrics.count_attempts_by_reason() == {None: 4}
        assert uow.metrics.ended_totals() == {"default": ResourceTotals(cpu_s=10.0, gpu_s=0.0)}


def make_attempt(run_id: str, number: int, **changes: Any) -> Attempt:
    return replace(Attempt(run_id, number, f"{run_id}-a{number}", NOW), **changes)


def end_attempt(attempts: Attempts, run_id: str, number: int, **changes: Any) -> None:
    attempt = attempts.get(run_id, number)
    assert attempt is not None
    attempts.save(replace(attempt, ended_at=LATER, **changes))


def run_in_threads(work: Callable[[int], None], *, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, number) for number in range(threads)]:
            future.result(timeout=60)
