"""Reading transactions: they see one moment, wait for nobody, keep nobody waiting, never write."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Event
from service.domain.scheduling.projects import Project
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.store.database import Database
from service.store.engine import WriteInSnapshot
from tests.support.factories import make_run

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    with database.transaction() as uow:
        uow.runs.add(make_run())
    yield database
    database.close()


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    with database.transaction() as writing:
        writing.projects.put(Project("new", max_runs=1))
        with database.snapshot() as reading:
            seen = reading.projects.all()

    assert seen == []
    with database.snapshot() as reading:
        assert [project.name for project in reading.projects.all()] == ["new"]


def test_a_writer_does_not_wait_for_a_reader_which_sees_one_moment(database: Database) -> None:
    with database.snapshot() as reading:
        before = reading.projects.all()
        with database.transaction() as writing:
            writing.projects.put(Project("new"))
        after = reading.projects.all()

    assert before == after == []


@pytest.mark.parametrize(
    "write",
    [
        lambda uow: uow.runs.add(make_run(id="another")),
        lambda uow: uow.runs.save(make_run(message="changed")),
        lambda uow: uow.runs.get_for_update(make_run().id),
        lambda uow: uow.runs.lease(RunState.QUEUED, owner="a", now=NOW, until=NOW, limit=1),
        lambda uow: uow.events.add(Event(make_run().id, NOW, "a", EventKind.NOTE, "")),
        lambda uow: uow.projects.put(Project("new")),
        lambda uow: uow.leader_leases.acquire("a", owner="b", now=NOW, until=NOW),
    ],
    ids=["add", "save", "lock", "lease", "event", "merge", "upsert"],
)
def test_a_write_in_a_snapshot_is_a_fault_of_ours_that_says_so(
    database: Database, write: Callable[[UnitOfWork], object]
) -> None:
    with pytest.raises(WriteInSnapshot, match=r"Store\.transaction"), database.snapshot() as uow:
        write(uow)

    with database.transaction() as uow:
        assert uow.runs.get(make_run().id) == make_run()
        assert uow.projects.all() == []


def test_writers_at_once_on_both_databases_lose_nothing(database: Database) -> None:
    all_are_ready = threading.Barrier(8)

    def write(thread: int) -> None:
        all_are_ready.wait(60)
        for number in range(5):
            run = make_run(id=f"r{thread}{number}")

            def add(uow: UnitOfWork) -> None:
                uow.runs.lock_inserts()
                uow.runs.add(run)  # noqa: B023

            database.write_together(add)
            with database.snapshot() as uow:
                assert uow.runs.get(run.id) == run

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(write, thread) for thread in range(8)]:
            future.result()

    with database.snapshot() as uow:
        assert len(uow.runs.in_states(RunState.QUEUED)) == 41


def test_a_failed_write_of_several_leaves_those_of_the_others(database: Database) -> None:
    def fail(uow: UnitOfWork) -> None:
        uow.projects.put(Project("failed"))
        raise ZeroDivisionError

    with ThreadPoolExecutor(8) as pool:
        futures = [
            pool.submit(database.write_together, fail)
            if number % 4 == 0
            else pool.submit(database.write_together, _put_project(f"p{number}"))
            for number in range(16)
        ]
    failures = [future.exception() for future in futures]

    assert [type(error) for error in failures if error] == [ZeroDivisionError] * 4
    with database.snapshot() as uow:
        stored = {project.name for project in uow.projects.all()}
    assert stored == {f"p{number}" for number in range(16) if number % 4}


def _put_project(name: str) -> Callable[[UnitOfWork], None]:
    return lambda uow: uow.projects.put(Project(name))
