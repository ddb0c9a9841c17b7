"""What is read of comparable runs is limited to the newest ones, however many there are."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.domain.repositories import baselines
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run
from service.domain.states import RunState
from service.store.database import Database
from tests.support.factories import make_run
from tests.support.service.sqlite_operations import count_operations
from tests.support.service.stage import migrated_sqlite

LIMIT = 20
CALLS: dict[str, Callable[[UnitOfWork], object]] = {
    "find_scores": lambda uow: uow.baselines.find_scores("group", project="default"),
    "find_seeds": lambda uow: uow.baselines.find_seeds("seedless", project="default"),
    "find_pairs, over": lambda uow: uow.baselines.find_pairs(
        "seedless", project="default", are_over=True
    ),
    "find_pairs, viable": lambda uow: uow.baselines.find_pairs(
        "seedless", project="default", are_over=False
    ),
}


@pytest.fixture(autouse=True)
def _read_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MAX_COMPARABLE", LIMIT)


def make_pairs(count: int) -> Iterator[Run]:
    """Distilled runs that differ in their seed alone, each behind its baseline."""
    for number in range(count):
        common = {"state": RunState.SUCCEEDED, "best_map": number / 1000.0}
        baseline_id = f"rb{number:011}"
        yield make_run(id=baseline_id, spec_digest=f"b{number}", **common)
        yield make_run(
            id=f"rd{number:011}",
            baseline_run_id=baseline_id,
            spec_digest=f"d{number}",
            seedless_digest="seedless",
            seed_group_key="group",
            **common,
        )


def measure(file: Path, pairs: int) -> dict[str, int]:
    """Operations of each call among this many pairs."""
    file.write_bytes(migrated_sqlite())
    costs = {}
    with count_operations() as counter:
        database = Database(f"sqlite:///{file}")
        with database.transaction() as uow:
            uow.runs.add(*make_pairs(pairs))
        for name, call in CALLS.items():
            with database.snapshot() as uow:
                before = counter.operations
                call(uow)
                costs[name] = counter.operations - before
        database.close()
    return costs


def test_the_cost_does_not_grow_with_the_number_of_comparable_runs(tmp_path: Path) -> None:
    small, large = (measure(tmp_path / f"{pairs}.db", pairs) for pairs in (3 * LIMIT, 20 * LIMIT))

    assert {name: cost for name, cost in large.items() if cost > 1.1 * small[name]} == {}


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_the_newest_are_read_oldest_first(database_url: str) -> None:
    database = Database(database_url)
    with database.transaction() as uow:
        uow.runs.add(*make_pairs(LIMIT + 5))

    with database.snapshot() as uow:
        scores = uow.baselines.find_scores("group", project="default")
        seeds = uow.baselines.find_seeds("seedless", project="default")
        pairs = uow.baselines.find_pairs("seedless", project="default", are_over=True)
    database.close()

    newest = [f"rd{number:011}" for number in range(5, LIMIT + 5)]
    assert [score.run_id for score in scores] == newest
    assert [run.id for run in seeds] == newest
    assert [run.id for run, _ in pairs] == newest
