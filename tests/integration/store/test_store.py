"""The store on SQLite and PostgreSQL: constraints, replays, time zones, leases, many threads."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from configs.catalog import parse_spec
from configs.protocol.records import Metrics
from service.domain.errors.conflicts import LeaseLost
from service.domain.errors.requests import RunNotFound
from service.domain.errors.systems import DatabaseUnreachable
from service.domain.repositories.baselines import ReusableBaseline
from service.domain.repositories.runs import RunFilter
from service.domain.runs import Attempt, Event
from service.domain.scheduling.projects import Project
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.store.database import Database
from service.store.tables import LeaderLeaseRow, RunRow
from tests.support.factories import make_run, make_spec
from tests.support.service.postgres import Postgres
from tests.support.service.stage import open_stage

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def test_a_sqlite_file_is_in_wal_mode_and_keeps_foreign_keys(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tandem.db'}")
    with database.transaction() as uow:
        session = uow.runs._session
        mode = session.scalar(text("PRAGMA journal_mode"))
        keys = session.scalar(text("PRAGMA foreign_keys"))
    database.close()

    assert (mode, keys) == ("wal", 1)


def test_an_event_of_no_run_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"), database.transaction() as uow:
        uow.events.add(Event("r" + "9" * 12, NOW, "user", EventKind.LAUNCHED, "?"))


def test_an_attempt_is_made_once(database: Database) -> None:
    run = make_run()
    with database.transaction() as uow:
        uow.runs.add(run)
        uow.attempts.add(Attempt(run.id, 1, f"{run.id}-a1", NOW))

    with pytest.raises(IntegrityError, match=r"(?i)unique"), database.transaction() as uow:
        uow.attempts.add(Attempt(run.id, 2, f"{run.id}-a1", NOW))


def test_what_a_failed_transaction_wrote_is_gone(database: Database) -> None:
    def add_and_fail() -> None:
        with database.transaction() as uow:
            uow.runs.add(make_run())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()

    with pytest.raises(RunNotFound), database.transaction() as uow:
        uow.runs.get(make_run().id)


def test_a_metric_that_comes_again_keeps_its_first_value(database: Database) -> None:
    run = make_run()
    first = Metrics(at=NOW, attempt=1, step=1, values={"train/loss": 2.0})
    repeated = Metrics(at=NOW, attempt=2, step=1, values={"train/loss": 9.0, "train/lr": 0.1})
    with database.transaction() as uow:
        uow.runs.add(run)
        uow.metric_points.add(run.id, [first])
        uow.metric_points.add(run.id, [repeated])

        points = uow.metric_points.of_run(run.id, key=None)

    assert [(p.key, p.value) for p in points] == [("train/loss", 2.0), ("train/lr", 0.1)]


def test_means_over_intervals_of_steps_are_those_of_each_key_with_a_prefix(
    database: Database,
) -> None:
    run = make_run()
    values = {10: 4.0, 20: 2.0, 30: 1.0, 40: 3.0, 50: 7.0}
    with database.transaction() as uow:
        uow.runs.add(run)
        for step, loss in values.items():
            metrics = {"train/loss": loss, "train/loss_cls": loss / 2, "val/loss": 9.0}
            at = NOW + timedelta(seconds=step)
            uow.metric_points.add(run.id, [Metrics(at=at, attempt=1, step=step, values=metrics)])

        points = uow.metric_points.means_of_run(run.id, prefix="train/loss", every_steps=20)

    assert [(p.key, p.step, p.value) for p in points] == [
        *(("train/loss", 20, 3.0), ("train/loss", 40, 2.0), ("train/loss", 50, 7.0)),
        *(("train/loss_cls", 20, 1.5), ("train/loss_cls", 40, 1.0), ("train/loss_cls", 50, 3.5)),
    ]
    assert points[0].at == NOW + timedelta(seconds=20)


def test_times_come_back_aware_and_in_utc(database: Database) -> None:
    elsewhere = timezone(timedelta(hours=9))
    run = make_run(created_at=NOW.astimezone(elsewhere), last_seen_at=NOW)
    with database.transaction() as uow:
        uow.runs.add(run)

    with database.transaction() as uow:
        stored = uow.runs.get(run.id)

    assert stored.created_at == NOW
    assert stored.created_at.utcoffset() == timedelta(0)


def test_a_run_keeps_everything_it_has(database: Database) -> None:
    run = make_run(
        attempt=2,
        latest={"train/loss": 0.5},
        pending_records={"service": 0, "mlflow": 120},
        best_map=0.3,
        message="ü",
        desired="cancelled",
    )
    with database.transaction() as uow:
        uow.runs.add(replace(run, message=""))
        uow.runs.save(run)

    with database.transaction() as uow:
        assert uow.runs.get(run.id) == run


def test_threads_that_read_and_write_at_once_lose_nothing(database: Database) -> None:
    run = make_run()
    with database.transaction() as uow:
        uow.runs.add(run)

    def count_up() -> None:
        for _ in range(20):
            with database.transaction() as uow:
                current = uow.runs.get_for_update(run.id)
                position = current.ingest.next_spool_position + 1
                ingest = replace(current.ingest, next_spool_position=position)
                uow.runs.save(replace(current, ingest=ingest))

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.transaction() as uow:
        assert uow.runs.get(run.id).ingest.next_spool_position == 80


def test_threads_that_add_runs_at_once_give_each_a_place(database: Database) -> None:
    def add(thread: int) -> None:
        for number in range(5):
            with database.transaction() as uow:
                uow.runs.lock_inserts()
                uow.runs.add(make_run(id=f"r{thread}{number}"))

    run_in_threads(add, threads=4)

    with database.transaction() as uow:
        orders = uow.runs._session.scalars(select(RunRow.sequence).order_by(RunRow.sequence)).all()
    assert list(orders) == list(range(1, 21))


def test_a_run_belongs_to_one_owner_until_its_time_is_over(database: Database) -> None:
    with database.transaction() as uow:
        uow.runs.add(make_run(state=RunState.RUNNING))

    assert claim_all(database, "a") == [(make_run().id, None)]
    assert claim_all(database, "b") == []
    assert claim_all(database, "a") == [(make_run().id, None)]
    assert claim_all(database, "b", later_s=31) == [(make_run().id, "a")]
    with pytest.raises(LeaseLost), database.transaction() as uow:
        uow.runs.get_for_update(make_run().id, owner="a")
    with database.transaction() as uow:
        uow.runs.release("b")
        assert uow.runs.get_for_update(make_run().id, owner="a").id == make_run().id


def test_a_lease_is_renewed_when_half_of_it_is_left(database: Database) -> None:
    ids = [f"r{number}" for number in range(3)]
    with database.transaction() as uow:
        for run_id in ids:
            uow.runs.add(make_run(id=run_id, state=RunState.RUNNING))

    def lease(*, later_s: float, limit: int = 10) -> list[str]:
        now = NOW + timedelta(seconds=later_s)
        until = now + timedelta(seconds=30)
        with database.transaction() as uow:
            leases = uow.runs.lease(RunState.RUNNING, owner="a", now=now, until=until, limit=limit)
        return [item.run_id for item in leases]

    assert [lease(later_s=0, limit=2), lease(later_s=0, limit=2)] == [ids[:2], ids[2:]]
    assert lease(later_s=15) == []
    assert lease(later_s=16) == ids
    assert lease(later_s=31) == []


def test_of_owners_that_claim_at_once_each_run_gets_exactly_one(database: Database) -> None:
    ids = [f"r{number:02}" for number in range(20)]
    with database.transaction() as uow:
        for run_id in ids:
            uow.runs.add(make_run(id=run_id, state=RunState.RUNNING))
    results: set[tuple[str, str]] = set()

    def claim(owner: int) -> None:
        for _ in range(5):
            results.update(
                (run, f"owner-{owner}") for run, _ in claim_all(database, f"owner-{owner}")
            )

    run_in_threads(claim, threads=4)

    with database.transaction() as uow:
        rows = uow.runs._session.scalars(select(RunRow)).all()
    assert sorted(results) == [(row.id, row.lease_owner) for row in rows]
    assert [run for run, _ in sorted(results)] == ids


def test_a_claim_does_not_wait_for_a_row_that_is_held(postgres: Postgres) -> None:
    url = postgres.create_database()
    locking_database, other = Database(url), Database(url)
    with locking_database.transaction() as uow:
        for name in ("held", "free"):
            uow.runs.add(make_run(id=name, state=RunState.RUNNING))

    with locking_database.transaction() as uow:
        uow.runs.get_for_update("held")
        assert [run for run, _ in claim_all(other, "b")] == ["free"]

    assert [run for run, _ in claim_all(other, "b")] == ["held", "free"]
    locking_database.close()
    other.close()


def test_a_leader_lease_has_one_owner_until_it_expires(database: Database) -> None:
    def hold(owner: str, *, later_s: float = 0.0) -> bool:
        now = NOW + timedelta(seconds=later_s)
        with database.transaction() as uow:
            return uow.leader_leases.acquire(
                "queue", owner=owner, now=now, until=now + timedelta(seconds=15)
            )

    assert [hold("a"), hold("b"), hold("a", later_s=10)] == [True, False, True]
    assert [hold("b", later_s=20), hold("b", later_s=26)] == [False, True]
    with database.transaction() as uow:
        uow.leader_leases.release("b")
    assert hold("a", later_s=26)


def test_a_leader_lease_is_written_only_when_half_of_it_is_left(database: Database) -> None:
    def acquire(*, later_s: float) -> datetime:
        now = NOW + timedelta(seconds=later_s)
        until = now + timedelta(seconds=30)
        with database.transaction() as uow:
            assert uow.leader_leases.acquire("queue", owner="a", now=now, until=until)
            lease = uow.leader_leases._session.get(LeaderLeaseRow, "queue")
            assert lease is not None
            return lease.until

    written = [acquire(later_s=later_s) for later_s in (0, 14, 16)]

    assert [(until - NOW).total_seconds() for until in written] == [30, 30, 46]


def test_positions_follow_priority_and_age_within_a_project(database: Database) -> None:
    runs = [
        make_run(id="old", created_at=NOW - timedelta(hours=1)),
        make_run(id="young", created_at=NOW),
        make_run(id="equal", created_at=NOW),
        make_run(id="pressing", created_at=NOW, priority=1),
        make_run(id="theirs", project="theirs", priority=2),
        make_run(id="running", state=RunState.RUNNING, priority=3),
    ]
    with database.transaction() as uow:
        for run in runs:
            uow.runs.add(run)

        positions = {run.id: uow.runs.queue_position(run) for run in runs[:5]}

    assert positions == {"pressing": 1, "old": 2, "young": 3, "equal": 4, "theirs": 1}


def test_reasons_to_wait_are_stored_for_queued_runs_where_they_differ(database: Database) -> None:
    with database.transaction() as uow:
        uow.runs.add(make_run(id="same", waiting_for="a GPU"))
        uow.runs.add(make_run(id="other", waiting_for="a core"))
        uow.runs.add(make_run(id="new"))
        uow.runs.add(make_run(id="running", state=RunState.RUNNING))
    names = ("same", "other", "new", "running", "unknown")

    with database.transaction() as uow:
        changed = uow.runs.set_waiting_for(dict.fromkeys(names, "a GPU"))

    with database.transaction() as uow:
        stored = {state.run_id: state.waiting_for for state in uow.runs.queue_states()}
    assert changed == ["new", "other"]
    assert stored == {"same": "a GPU", "other": "a GPU", "new": "a GPU"}


def test_a_project_that_nobody_set_has_no_limits(database: Database) -> None:
    strict = Project("strict", weight=2.0, max_runs=1, max_gpus=0)
    with database.transaction() as uow:
        uow.projects.put(Project("strict"))
        uow.projects.put(strict)

        assert uow.projects.get("other") == Project("other")
        assert uow.projects.all() == [strict]


def test_runs_are_found_by_a_tag_whatever_its_letters(database: Database) -> None:
    tags = {"team": "größe", "a.b": 'say "x"', "by": "100%'", "empty": ""}
    with database.transaction() as uow:
        uow.runs.add(make_run(id="tagged", spec=parse_spec(make_spec(tags=tags))))
        uow.runs.add(make_run(id="plain"))

        results = {
            key: [run.id for run in uow.runs.page(RunFilter(tag=(key, value)))]
            for key, value in tags.items()
        }

        assert results == {key: ["tagged"] for key in tags}
        assert uow.runs.page(RunFilter(tag=("team", "other"))) == []
        for key in ("none", 'o"k', "o'k", "$[0]", "%s"):
            assert uow.runs.page(RunFilter(tag=(key, "größe"))) == []


def test_runs_keep_their_order_through_pages_and_changes(database: Database) -> None:
    ids = [f"r{number}" for number in range(5)]
    changes = {"state": RunState.FAILED, "mlflow_synced": False, "project": "p", "preset": "q"}
    with database.transaction() as uow:
        for run_id in ids:
            uow.runs.add(make_run(id=run_id, **changes))
    for run_id in ids[::2]:
        with database.transaction() as uow:
            uow.runs.save(replace(uow.runs.get_for_update(run_id), message="changed"))

    with database.transaction() as uow:
        page = [run.id for run in uow.runs.page(RunFilter(project="p", preset="q", limit=2))]
        later_ids = [run.id for run in uow.runs.page(RunFilter(before=page[-1]))]
        assert page + later_ids == ids[::-1]
        assert [run.id for run in uow.runs.in_states(RunState.FAILED)] == ids
        assert [run.id for run in uow.runs.not_synced()] == ids


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("r1", ["r1z", "r1a"]),
        ("r1a", ["r1a"]),
        ("", ["r2", "r1z", "r1a"]),
        ("R1", []),
        ("r_", []),
        ("r%", []),
        ("r\x00", []),
        ("r1aa", []),
    ],
)
def test_runs_are_selected_by_the_start_of_their_id(
    database: Database, prefix: str, expected: list[str]
) -> None:
    with database.transaction() as uow:
        for run_id in ("r1a", "r1z", "r2"):
            uow.runs.add(make_run(id=run_id))

    with database.transaction() as uow:
        assert [run.id for run in uow.runs.page(RunFilter(id_prefix=prefix))] == expected


def test_attempts_that_ended_come_in_the_order_in_which_they_did(database: Database) -> None:
    with database.transaction() as uow:
        uow.runs.add(make_run(state=RunState.RUNNING, attempt=3))
        for number, minutes in ((1, 5), (2, 1), (3, None)):
            ended_at = None if minutes is None else NOW + timedelta(minutes=minutes)
            uow.attempts.add(Attempt(make_run().id, number, f"a{number}", NOW, ended_at=ended_at))

        assert [attempt.number for attempt in uow.attempts.ended_since(NOW)] == [2, 1]
        assert uow.attempts.current()[make_run().id].number == 3


class TestTheDatabaseGoesAway:
    """PostgreSQL is stopped, or closes its connections."""

    def test_a_dropped_connection_is_not_handed_out_again(self, postgres: Postgres) -> None:
        database = Database(postgres.create_database())
        with database.transaction() as uow:
            uow.runs.add(make_run())

        assert postgres.terminate_connections() > 0

        with database.transaction() as uow:
            assert uow.runs.get(make_run().id) == make_run()
        database.close()

    def test_one_that_drops_in_the_middle_is_told_and_nothing_is_written(
        self, postgres: Postgres
    ) -> None:
        database = Database(postgres.create_database())

        def add_and_lose() -> None:
            with database.transaction() as uow:
                uow.runs.add(make_run())
                postgres.terminate_connections()
                uow.runs.get(make_run().id)
                uow.runs.add(make_run(id="other"))

        with pytest.raises(DatabaseUnreachable) as exc_info:
            add_and_lose()

        assert "secret" not in str(exc_info.value)
        with pytest.raises(RunNotFound), database.transaction() as uow:
            uow.runs.get(make_run().id)
        database.close()

    def test_a_service_answers_503_while_it_is_stopped_and_goes_on_by_itself(
        self, postgres: Postgres, tmp_path: Path
    ) -> None:
        with open_stage(tmp_path, database_url=postgres.create_database()) as stage:
            stage.add_dataset()
            run_id = stage.launch(spec=make_spec())["id"]
            postgres.stop()
            try:
                responses = [
                    stage.http.get(f"/v1/runs/{run_id}"),
                    stage.http.post("/v1/runs", json={"spec": make_spec()}),
                    stage.http.post(f"/v1/runs/{run_id}:cancel"),
                ]
                with pytest.raises(DatabaseUnreachable):
                    stage.reconciler.run_once()
            finally:
                postgres.start()

            assert {response.status_code for response in responses} == {503}
            assert {response.json()["code"] for response in responses} == {"database_unreachable"}
            assert "secret" not in "".join(response.text for response in responses)
            stage.run_loops()
            assert stage.run(run_id)["state"] == "starting"
            assert len(stage.http.get("/v1/runs").json()["items"]) == 1


def claim_all(
    database: Database, owner: str, *, later_s: float = 0.0
) -> list[tuple[str, str | None]]:
    now = NOW + timedelta(seconds=later_s)
    with database.transaction() as uow:
        claims = uow.runs.lease(
            RunState.RUNNING, owner=owner, now=now, until=now + timedelta(seconds=30), limit=1000
        )
        previous = {claim.run_id: claim.previous_owner for claim in claims}
        leased = uow.runs.leased_by(owner, RunState.RUNNING)
    return [(run.id, previous.get(run.id)) for run in leased]


def run_in_threads(work: Callable[[int], None], *, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, number) for number in range(threads)]:
            future.result(timeout=60)


class TestReusableBaselines:
    """The run that others are compared with."""

    @pytest.mark.parametrize(
        ("states", "chosen"),
        [
            ((), None),
            (("failed", "cancelled"), None),
            (("running", "queued"), 0),
            (("queued", "succeeded", "succeeded"), 1),
            (("failed", "paused"), 1),
        ],
        ids=str,
    )
    def test_it_is_the_oldest_that_succeeded_or_still_may(
        self, database: Database, states: tuple[str, ...], chosen: int | None
    ) -> None:
        runs = [
            make_run(id=f"r{9 - index:012}", state=RunState(state), spec_digest="d")
            for index, state in enumerate(states)
        ]
        with database.transaction() as uow:
            uow.runs.add(make_run(), *runs)

        reusable = find_reusable(database)
        assert (reusable and reusable.id) == (None if chosen is None else runs[chosen].id)

    @pytest.mark.parametrize(
        ("changes", "counts"),
        [
            ({"state": RunState.RUNNING, "desired": "cancelled"}, False),
            ({"state": RunState.RUNNING, "trial": 3}, False),
            ({"state": RunState.SUCCEEDED, "trial": 3}, True),
            ({"spec_digest": "other"}, False),
            ({"project": "other"}, False),
        ],
        ids=str,
    )
    def test_one_that_may_end_early_or_is_another_does_not_count(
        self, database: Database, changes: dict[str, Any], counts: bool
    ) -> None:
        with database.transaction() as uow:
            uow.runs.add(make_run(**{"spec_digest": "d"} | changes))

        assert (find_reusable(database) is not None) is counts


def find_reusable(database: Database) -> ReusableBaseline | None:
    with database.snapshot() as uow:
        return uow.baselines.find_reusable("d", project="default")
