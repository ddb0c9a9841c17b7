"""Lists of runs: filters, orders and pages, at a cost that does not grow with the history."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Table, insert

from service.domain.repositories.runs import RunFilter
from service.domain.runs import Run
from service.domain.states import RunState
from service.store.database import Database
from service.store.tables import RunRow, RunTagRow
from tests.support.factories import make_run

TASKS = ("train", "evaluate", "export", "probe", "report")
LISTED = ("train", "evaluate", "export")
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "a task": {"tasks": ("report",)},
    "several tasks": {"tasks": LISTED},
    "a project": {"project": "p1"},
    "a preset": {"preset": "x1"},
    "a dataset": {"dataset": "d1"},
    "a state that many have": {"states": (RunState.SUCCEEDED,)},
    "a state that few have": {"states": (RunState.RUNNING,)},
    "a state that none has": {"states": (RunState.CANCELLED,)},
    "several states": {"states": (RunState.SUCCEEDED, RunState.FAILED)},
    "unfinished runs": {"states": (RunState.QUEUED, RunState.RUNNING)},
    "failures of a project": {"states": (RunState.FAILED,), "project": "p1", "tasks": LISTED},
    "all at once": {
        "states": (RunState.SUCCEEDED, RunState.FAILED),
        "tasks": LISTED,
        "project": "p1",
        "preset": "x1",
        "dataset": "d1",
    },
    "a sweep": {"sweep": "s000000000003"},
    "a trial": {"sweep": "s000000000003", "trial": 1},
    "a trial of any sweep": {"trial": 1},
    "a state of a project": {"states": (RunState.FAILED,), "project": "p1"},
    "a preset of a project": {"preset": "x1", "project": "p1"},
    "a tag": {"tag": ("team", "t1")},
    "a tag of a project": {"tag": ("team", "t1"), "project": "p1"},
    "a tag that few have": {"tag": ("campaign", "old")},
    "a tag and a state": {"tag": ("team", "t1"), "states": (RunState.FAILED,)},
    "a tag and a prefix": {"tag": ("team", "t1"), "id_prefix": "r00000000010"},
    "a prefix": {"id_prefix": "r00000000010"},
    "a prefix that all have": {"id_prefix": "r"},
    "a prefix of many": {"id_prefix": "r0"},
    "a prefix of none": {"id_prefix": "s"},
}
RARE = {"all at once", "a tag and a state"}
"""So few runs match that the shorter history ends before the page does."""

NEWEST_ONES = 120
"""The last so many runs are in every state; those before have almost all succeeded."""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.mark.parametrize("order", ["newest", "best_map"])
@pytest.mark.parametrize("fields", FILTERS.values(), ids=FILTERS.keys())
def test_pages_have_the_matching_runs_in_order_and_each_once(
    history: Database, fields: dict[str, Any], order: Any
) -> None:
    run_filter = RunFilter(**fields, order=order, limit=7)

    pages = list(islice(iter_pages(history, run_filter), 60))

    listed = [run.id for page in pages for run in page]
    assert listed == [row["id"] for row in expect(make_rows(400), fields, order)]
    assert all(len(page) == 7 for page in pages[:-1])


def test_a_run_without_map_ends_the_pages_by_map(database: Database) -> None:
    with database.transaction() as uow:
        uow.runs.add(make_run(id="with", best_map=0.5))
        uow.runs.add(make_run(id="without"))

        assert uow.runs.page(RunFilter(order="best_map", before="without")) == []


@pytest.mark.parametrize("order", ["newest", "best_map"])
def test_the_cost_of_a_page_does_not_grow_with_the_history(tmp_path: Path, order: Any) -> None:
    costs = [count_operations(tmp_path / f"{runs}.db", runs, order) for runs in (400, 1600)]

    grown = {
        name: (cost, costs[1][name])
        for name, cost in costs[0].items()
        if costs[1][name] > 2 * cost and name not in RARE
    }
    assert grown == {}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = make_history(tmp_path_factory.mktemp("history") / "tandem.db", 400)
    yield database
    database.close()


def make_history(file: Path, runs: int) -> Database:
    database = Database(f"sqlite:///{file}")
    database.migrate()
    with database.transaction() as uow:
        uow.runs.add(make_run(id="template"))
        session = uow.runs._session
        table: Table = RunRow.metadata.tables["runs"]
        template = dict(session.execute(table.select()).mappings().one())
        session.execute(table.delete())
        rows = make_rows(runs)
        session.execute(insert(RunRow), [template | row for row in rows])
        session.execute(insert(RunTagRow), [tag for row in rows for tag in make_tags(row)])
    return database


def make_rows(runs: int) -> list[dict[str, Any]]:
    """Rows, oldest first; a longer history has the same newest rows."""
    rows = []
    for number in range(runs):
        random = Random(runs - number)
        task = random.choices(TASKS, weights=(6, 1, 1, 1, 3))[0]
        is_new = number >= runs - NEWEST_ONES
        state = random.choice(("queued", "running", "failed", "succeeded"))
        score = round(random.random(), 2)
        rows.append(
            {
                "id": f"r{number:012}",
                "sequence": number + 2,
                "task": task,
                "state": state if is_new else "succeeded",
                "project": f"p{random.randrange(3)}",
                "preset": random.choice((None, "x0", "x1")),
                "dataset": None if task == "report" else f"d{random.randrange(3)}",
                "best_map": score if task in ("train", "evaluate") and score > 0.1 else None,
                "sweep_id": f"s{number // 50:012}",
                "trial": number % 4,
            }
        )
    return rows


def make_tags(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    copied = {name: row[name] for name in ("project", "sequence", "best_map")}
    for key, value in list_tags(row):
        yield {"run_id": row["id"], "key": key, "value": value, **copied}


def list_tags(row: dict[str, Any]) -> list[tuple[str, str]]:
    old = [("campaign", "old")] if row["sequence"] < 8 else []
    return [("team", f"t{row['sequence'] % 3}"), *old]


def expect(rows: list[dict[str, Any]], fields: dict[str, Any], order: str) -> list[dict[str, Any]]:
    """The rows in the order of a list, selected without a database."""
    columns = {"sweep": "sweep_id", "states": "state", "tasks": "task"}
    for name, value in fields.items():
        if name == "id_prefix":
            rows = [row for row in rows if row["id"].startswith(value)]
            continue
        if name == "tag":
            rows = [row for row in rows if value in list_tags(row)]
            continue
        values = value if isinstance(value, tuple) else (value,)
        rows = [row for row in rows if row[columns.get(name, name)] in values]
    if order == "newest":
        return sorted(rows, key=lambda row: -row["sequence"])
    scored = [row for row in rows if row["best_map"] is not None]
    return sorted(scored, key=lambda row: (-row["best_map"], -row["sequence"]))


def iter_pages(database: Database, run_filter: RunFilter) -> Iterator[list[Run]]:
    before: str | None = None
    while True:
        with database.transaction() as uow:
            page = uow.runs.page(RunFilter(**(vars(run_filter) | {"before": before})))
        yield page
        if len(page) < run_filter.limit:
            return
        before = page[-1].id


def count_operations(file: Path, runs: int, order: Any) -> dict[str, int]:
    """Operations of SQLite's virtual machine for the first page and the second, by filter."""
    database = make_history(file, runs)
    counts = {}
    for name, fields in FILTERS.items():
        operations = [0]

        def count(operations: list[int] = operations) -> int:
            operations[0] += 1
            return 0

        with database.transaction() as uow:
            connection: Any = uow.runs._session.connection().connection.driver_connection
            connection.set_progress_handler(count, 1)
            run_filter = RunFilter(**fields, order=order, limit=5)
            page = uow.runs.page(run_filter)
            if page:
                uow.runs.page(RunFilter(**(vars(run_filter) | {"before": page[-1].id})))
            connection.set_progress_handler(None, 0)
        counts[name] = operations[0]
    database.close()
    return counts
