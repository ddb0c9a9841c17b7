"""What a launch costs, and that what was answered with 201 is stored, however many come at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from service.domain.states import RunState
from service.store.database import Database
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.stage import ON_BOTH_DATABASES, Stage

_MAX_STATEMENTS = 9
"""Dataset, teacher, lock (PostgreSQL), baseline, sequence, run, audit entry, events, totals."""

_MAX_TRANSACTIONS = 2
"""One that reads, one that launches."""


@contextmanager
def recorded(stage: Stage) -> Iterator[tuple[list[str], list[str]]]:
    """Record the statements, and the transactions, of the service's database."""
    store = stage.ctx.store
    assert isinstance(store, Database)
    statements: list[str] = []
    transactions: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append(statement)

    def note_begin(_connection: object) -> None:
        transactions.append("begin")

    # On PostgreSQL both have the same connections, and the events of either one.
    both = (store._snapshot_engine, store._engine)
    engines = {engine.pool: engine for engine in both}.values()
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
        event.listen(engine, "begin", note_begin)
    yield statements, transactions
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
        event.remove(engine, "begin", note_begin)


@ON_BOTH_DATABASES
def test_a_launch_takes_few_statements_however_many_runs_there_are(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    for _ in range(4):
        stage.launch(spec=make_bckd_spec())

    with recorded(stage) as (statements, transactions):
        stage.launch(spec=make_bckd_spec())

    assert len(statements) <= _MAX_STATEMENTS, "\n".join(statements)
    assert len(transactions) <= _MAX_TRANSACTIONS


@ON_BOTH_DATABASES
def test_launches_at_once_are_all_stored_and_share_one_baseline(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    store = stage.ctx.store
    assert isinstance(store, Database)

    def launch(number: int) -> dict[str, Any]:
        created = stage.launch(spec=make_bckd_spec(), name=f"run {number}")
        other = store.clone()
        with other.snapshot() as uow:
            assert uow.runs.get(created["id"]).name == f"run {number}"
            assert [e.kind for e in uow.events.of_run(created["id"])] == [
                "launched",
                "baseline_assigned",
            ]
        other.close()
        return created

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(launch, range(24)))

    assert len({run["id"] for run in created}) == 24
    assert len({run["baseline_run_id"] for run in created}) == 1
    with store.snapshot() as uow:
        queued = uow.runs.in_states(RunState.QUEUED)
        audited = uow.audit.page(before=None, limit=100)
    assert len(queued) == 25
    assert len([entry for entry in audited if entry.path == "/v1/runs"]) == 24


@ON_BOTH_DATABASES
def test_launches_at_once_with_one_key_make_one_run(stage: Stage) -> None:
    stage.add_dataset()

    def launch(number: int) -> tuple[int, str]:
        key = {"Idempotency-Key": f"k{number % 3}"}
        body = {"spec": make_spec(), "name": f"run {number % 3}"}
        response = stage.http.post("/v1/runs", json=body, headers=key)
        return response.status_code, response.json()["id"]

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(launch, range(12)))

    assert len({run_id for _, run_id in answers}) == 3
    assert sorted(status for status, _ in answers) == [200] * 9 + [201] * 3


def test_the_audit_entry_of_a_launch_has_its_status_and_run(stage: Stage) -> None:
    stage.add_dataset()
    key, body = {"Idempotency-Key": "k"}, {"spec": make_spec()}
    run_ids = [
        stage.http.post("/v1/runs", json=body, headers=key).json()["id"],
        stage.http.post("/v1/runs", json=body, headers=key).json()["id"],
    ]
    stage.http.post("/v1/runs", json={"spec": make_spec(seed=1)}, headers=key)

    entries = stage.http.get("/v1/audit?limit=3").json()["items"]

    assert [entry["status"] for entry in entries] == [409, 200, 201]
    assert [entry["run_id"] for entry in entries] == [None, *run_ids]


@ON_BOTH_DATABASES
def test_a_key_of_another_request_refuses_that_request_alone(stage: Stage) -> None:
    stage.add_dataset()

    def launch(number: int) -> int:
        key = {"Idempotency-Key": f"k{number % 4}"}
        body = {"spec": make_spec(), "name": f"run {number}"}
        return stage.http.post("/v1/runs", json=body, headers=key).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(launch, range(8)))

    assert sorted(statuses) == [201] * 4 + [409] * 4
