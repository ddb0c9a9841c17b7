"""New rows of one transaction are inserted together, and nothing in it misses them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service.domain.access import AuditEntry
from service.domain.repositories.baselines import ReusableBaseline
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Event, Run
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.store.database import Database
from tests.support.factories import make_run
from tests.support.service.many_runs import record_statements

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ENTRY = AuditEntry(NOW, "user", "POST", "/v1/runs", 102, "q", "127.0.0.1")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def launch(uow: UnitOfWork, number: int, **changes: object) -> Run:
    """What a launch writes, after it looked for its baseline."""
    uow.runs.lock_inserts()
    uow.baselines.find_reusable("d", project="default")
    run = make_run(**{"id": f"r{number:012}", "spec_digest": f"d{number}"} | changes)
    uow.runs.add(run)
    uow.events.add(Event(run.id, NOW, "user", EventKind.LAUNCHED, "It is so."))
    uow.audit.add(replace(ENTRY, run_id=run.id))
    return run


def test_launches_of_one_transaction_take_the_statements_of_one(database: Database) -> None:
    with database.transaction() as uow:
        launch(uow, 0, spec_digest="d", state=RunState.SUCCEEDED)
    counts = []
    for numbers in (range(1, 2), range(2, 9)):
        with record_statements(database) as statements, database.transaction() as uow:
            for number in numbers:
                launch(uow, number)
        reads = [text for text in statements.reads if "advisory" not in text]
        tables = {text.split()[2] for text in statements.writes}
        counts.append((len(reads), len(tables)))
        if database._engine.dialect.name == "postgresql":
            assert len(statements.writes) == len(tables)

    assert counts == [(2, 4), (2, 4)]  # the newest number of a run, its baseline


def test_a_baseline_of_the_same_transaction_is_found(database: Database) -> None:
    with database.transaction() as uow:
        launch(uow, 1)
        baseline = launch(uow, 2, spec_digest="d")
        launch(uow, 3, spec_digest="d")

        reused = uow.baselines.find_reusable("d", project="default")
        uow.runs.save(replace(baseline, state=RunState.CANCELLED))
        after_change = uow.baselines.find_reusable("d", project="default")

    assert reused == ReusableBaseline(baseline.id, RunState.QUEUED)
    assert after_change == ReusableBaseline("r000000000003", RunState.QUEUED)


def test_whatever_reads_sees_them(database: Database) -> None:
    with database.transaction() as uow:
        run = launch(uow, 1)

        assert uow.runs.get(run.id) == run
        assert [event.kind for event in uow.events.of_run(run.id)] == [EventKind.LAUNCHED]
        assert [entry.run_id for entry in uow.audit.page(before=None, limit=5)] == [run.id]


def test_events_have_the_project_of_their_run_and_keep_their_order(database: Database) -> None:
    with database.transaction() as uow:
        run = launch(uow, 1, project="pets")
        for number in range(50):
            uow.events.add(Event(run.id, NOW, "user", EventKind.NOTE, f"{number}"))

    with database.snapshot() as uow:
        events = uow.events.after(0, run_id=None, project="pets", limit=100)
    assert [event.details for event in events] == ["It is so.", *map(str, range(50))]


def test_each_entry_gets_its_own_id(database: Database) -> None:
    with database.transaction() as uow:
        ids = [uow.audit.add(replace(ENTRY, request_id=f"q{number}")) for number in range(5)]
        uow.audit.complete(ids[3], status=201, run_id=None)

    with database.snapshot() as uow:
        entries = {entry.request_id: entry for entry in uow.audit.page(before=None, limit=9)}
    assert [entries[f"q{number}"].id for number in range(5)] == [item.value for item in ids]
    assert [entry.request_id for entry in entries.values() if entry.status == 201] == ["q3"]


def test_text_comes_back_as_it_was(database: Database) -> None:
    text = 'line\n"quoted" \\u0000 \\ \u00fc \U0001f600 \u2028 {"a": 1}'
    with database.transaction() as uow:
        run = launch(uow, 1, name=text, message=text)
        uow.events.add(Event(run.id, NOW, "user", EventKind.NOTE, text))

    with database.snapshot() as uow:
        assert uow.runs.get(run.id) == run
        assert uow.events.of_run(run.id)[-1].details == text


def test_a_nul_does_not_refuse_the_rows_of_others(database: Database) -> None:
    with database.transaction() as uow:
        run = launch(uow, 1)
        uow.events.add(Event(run.id, NOW, "worker", EventKind.NOTE, "zero\x00 byte"))

    with database.snapshot() as uow:
        assert uow.events.of_run(run.id)[-1].details.replace("\x00", "\ufffd") == "zero\ufffd byte"
