"""An unreachable, locked or full database: 503 and a message, no partial writes, no restart."""

import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.orm import Session

import service.store.database
from configs.protocol.records import Note
from service.domain.errors.requests import RunNotFound
from service.domain.errors.systems import DatabaseUnreachable
from service.settings import Settings
from service.store import engine
from service.store.database import Database
from service.store.schema import schema_transaction
from service.store.totals import apply_changes
from tests.support.factories import make_run, make_spec
from tests.support.service.postgres import Postgres
from tests.support.service.runs import (
    deliver_raw,
    make_metrics,
    make_started,
    run_loop_step,
    submit_run,
)
from tests.support.service.stage import Stage, open_stage
from tests.support.stack.shell import TANDEM


class TestSqlite:
    """The file is locked by another process, or its disk is full."""

    def test_a_file_that_another_process_holds_too_long_is_a_503(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_id = submit_run(stage)
        monkeypatch.setattr(engine, "LOCK_TIMEOUT_S", 0.1)
        stage.ctx.store._engine.dispose()  # type: ignore[attr-defined]
        other = sqlite3.connect(stage.home / "tandem.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        held = stage.http.post(f"/v1/runs/{run_id}:pause")
        read = stage.http.get(f"/v1/runs/{run_id}")
        other.execute("ROLLBACK")
        other.close()

        assert (held.status_code, read.status_code) == (503, 200)
        assert held.json()["code"] == "database_unreachable"
        assert "locks the database" in held.json()["detail"]
        assert stage.http.post(f"/v1/runs/{run_id}:pause").status_code == 200

    def test_a_full_disk_is_a_503_and_writes_nothing_by_halves(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        store = stage.ctx.store
        assert isinstance(store, Database)
        store._engine.dispose()
        event.listen(store._engine, "connect", allow_no_more_pages)
        many = [make_metrics(stage, step, loss=1.0) for step in range(1, 400)]

        full = deliver_raw(stage, run_id, many)

        event.remove(store._engine, "connect", allow_no_more_pages)
        store._engine.dispose()
        assert full.status_code == 503
        assert "is full" in full.json()["detail"]
        assert stage.http.get(f"/v1/runs/{run_id}/metrics").json()["items"] == []
        assert stage.run(run_id)["state"] == "starting"
        assert deliver_raw(stage, run_id, many).json()["next"] == len(many)

    def test_a_disk_that_is_really_full_is_a_503_and_heals(self, small_disk: Path) -> None:
        with open_stage(small_disk) as stage:
            run_id = submit_run(stage)
            filler = small_disk / "filler"
            with pytest.raises(OSError, match="No space"):
                filler.write_bytes(b"0" * 2**22)
            many = [make_metrics(stage, step, loss=1.0) for step in range(1, 400)]

            full = deliver_raw(stage, run_id, many)
            filler.unlink()

            assert full.status_code == 503, full.text
            assert full.json()["code"] == "database_unreachable"
            assert stage.http.get(f"/v1/runs/{run_id}/metrics").json()["items"] == []
            assert deliver_raw(stage, run_id, many).json()["next"] == len(many)


class TestPostgresql:
    """The server stops, closes connections, or another client holds locks."""

    def test_a_delivery_that_found_it_stopped_is_taken_later_and_loops_go_on(
        self, postgres: Postgres, tmp_path: Path
    ) -> None:
        with open_stage(tmp_path, database_url=postgres.create_database()) as stage:
            run_id = submit_run(stage)
            postgres.stop()
            try:
                response = deliver_raw(stage, run_id, [make_metrics(stage, 1, loss=1.0)])
                readiness = stage.http.get("/readyz")
                for name in ("submit", "reconcile", "tracker_sync"):
                    run_loop_step(stage, name)
            finally:
                postgres.start()
            accepted = deliver_raw(stage, run_id, [make_metrics(stage, 1, loss=1.0)])

            assert (response.status_code, readiness.status_code) == (503, 503)
            assert accepted.json()["next"] == 1
            assert stage.run(run_id)["state"] == "running"

    def test_a_connection_that_is_lost_at_the_commit_leaves_the_outcome_open(
        self, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database = Database(postgres.create_database())

        def apply_changes_and_lose(session: Session) -> None:
            apply_changes(session)
            postgres.terminate_connections()

        def add_and_lose() -> None:
            with database.transaction() as uow:
                uow.runs.add(make_run())

        with monkeypatch.context() as patch:
            patch.setattr(service.store.database, "apply_changes", apply_changes_and_lose)
            with pytest.raises(DatabaseUnreachable, match="which may have succeeded"):
                add_and_lose()

        with pytest.raises(RunNotFound), database.transaction() as uow:
            uow.runs.get(make_run().id)
        database.close()

    def test_a_fault_of_ours_on_a_dead_connection_is_still_told(self, postgres: Postgres) -> None:
        database = Database(postgres.create_database())

        def lose_and_fail() -> None:
            with database.transaction() as uow:
                uow.runs.add(make_run())
                postgres.terminate_connections()
                raise ZeroDivisionError

        with pytest.raises((ZeroDivisionError, DatabaseUnreachable)):
            lose_and_fail()

        with database.transaction() as uow:
            uow.runs.add(make_run())
        database.close()

    def test_of_two_that_wait_for_each_other_one_goes_on_and_one_is_told(
        self, postgres: Postgres
    ) -> None:
        database = Database(postgres.create_database())
        with database.transaction() as uow:
            for name in ("a", "b"):
                uow.runs.add(make_run(id=name))
        both_hold_one = threading.Barrier(2)
        errors: list[str] = []

        def take(first: str, second: str) -> None:
            try:
                with database.transaction() as uow:
                    uow.runs.get_for_update(first)
                    both_hold_one.wait(timeout=20)
                    uow.runs.get_for_update(second)
            except DatabaseUnreachable as error:
                errors.append(str(error))

        threads = [threading.Thread(target=take, args=pair) for pair in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)

        assert len(errors) == 1
        assert "deadlock" in errors[0]
        database.close()

    def test_a_row_that_is_held_too_long_is_told(self, postgres: Postgres) -> None:
        url = postgres.create_database()
        locking_database = Database(url)
        other = Database(f"{url}?options=-c%20lock_timeout%3D100ms")
        with locking_database.transaction() as uow:
            uow.runs.add(make_run())

        with locking_database.transaction() as uow:
            uow.runs.get_for_update(make_run().id)
            with pytest.raises(DatabaseUnreachable, match="locks"), other.transaction() as waiting:
                waiting.runs.get_for_update(make_run().id)
        locking_database.close()
        other.close()


class TestWhatIsSaid:
    """Outages, errors of the service, and passwords that must not be logged."""

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/runs/a%00b",
            "/v1/runs?preset=%00&project=%00",
            "/v1/runs?tag=a%00b=c%00",
            "/v1/runs?cursor=a%00",
            "/v1/datasets/a%00b",
        ],
    )
    def test_a_letter_that_postgresql_has_not_is_found_nowhere(
        self, any_stage: Stage, path: str
    ) -> None:
        any_stage.add_dataset()
        any_stage.launch(spec=make_spec(tags={"a": "x"}))

        response = any_stage.http.get(path)

        assert response.status_code in {200, 404}, response.text
        assert response.json().get("items", []) == []
        assert any_stage.http.get("/v1/runs?tag=a=z").json()["items"] == []

    def test_a_worker_may_quote_any_letter(self, any_stage: Stage) -> None:
        run_id = submit_run(any_stage)
        note = Note(at=any_stage.clock.now(), attempt=1, text="zero\x00 byte")

        response = deliver_raw(any_stage, run_id, [note])

        assert response.json()["next"] == 1
        events = any_stage.http.get(f"/v1/runs/{run_id}/events").json()["items"]
        assert any("byte" in event["details"] for event in events)

    def test_the_largest_values_that_a_worker_may_say_are_taken(self, any_stage: Stage) -> None:
        run_id = submit_run(any_stage)
        key = "val/" + "x" * 246
        large = make_metrics(any_stage, 1).model_copy(update={"step": 2**53, "values": {key: 1.0}})

        response = deliver_raw(any_stage, run_id, [large])

        assert response.json()["next"] == 1, response.text
        (point,) = any_stage.http.get(f"/v1/runs/{run_id}/metrics").json()["items"]
        assert (point["key"], point["step"]) == (key, 2**53)

    def test_a_value_that_there_is_no_room_for_is_refused_and_no_fault(
        self, any_stage: Stage
    ) -> None:
        run_id = submit_run(any_stage)
        record = make_started(any_stage).model_copy(update={"resumed_from_epoch": 2**70})

        response = deliver_raw(any_stage, run_id, [record])

        assert (response.status_code, response.json()["code"]) == (422, "value_refused")
        assert any_stage.run(run_id)["state"] == "starting"

    def test_a_missing_table_is_a_fault_of_ours_and_no_outage(self, database_url: str) -> None:
        with schema_transaction(database_url) as connection:
            connection.execute(text("DROP TABLE leader_leases"))
        database = Database(database_url)

        with pytest.raises(DBAPIError), database.transaction() as uow:
            uow.leader_leases.release("a")
        database.close()

    @pytest.mark.parametrize(
        ("cause", "message"),
        [
            (psycopg.errors.DiskFull("could not extend file"), "is full"),
            (psycopg.errors.TooManyConnections("sorry"), "does not answer"),
            (psycopg.errors.ReadOnlySqlTransaction("a standby"), "does not answer"),
            (psycopg.errors.SerializationFailure("again"), "locks the database"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_postgresql_says_is_understood(self, cause: psycopg.Error, message: str) -> None:
        with pytest.raises(DatabaseUnreachable, match=message), engine.translate_db_errors():
            raise DBAPIError("INSERT", {}, cause)

    def test_more_work_than_connections_is_told(self) -> None:
        with pytest.raises(DatabaseUnreachable, match="in use"), engine.translate_db_errors():
            raise NoneFree

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
    def test_a_url_as_people_have_it_works(self, postgres: Postgres, scheme: str) -> None:
        _, _, address = postgres.create_database().partition("://")
        database = Database(Settings(database_url=f"{scheme}://{address}").sqlalchemy_url)

        with database.transaction() as uow:
            uow.runs.add(make_run())
        database.close()

    @pytest.mark.parametrize(
        "url",
        [
            "mysql://tandem:hush@127.0.0.1/tandem",
            "postgresql://tandem:hu@hush@127.0.0.1/tandem",
            "postgresql://tandem:hush/@127.0.0.1/tandem",
            "postgresql://tandem:pw@127.0.0.1:hush/tandem",
        ],
    )
    def test_a_url_that_cannot_be_is_refused_without_its_password(self, url: str) -> None:
        with pytest.raises(ValueError, match="database_url") as exc_info:
            Settings(database_url=url)

        assert "hush" not in str(exc_info.value)
        assert "hush" not in repr(Settings(database_url="postgresql://tandem:hush@127.0.0.1/t"))

    def test_a_service_without_its_database_says_so_before_it_listens(
        self, postgres: Postgres, tmp_path: Path
    ) -> None:
        wrong_url = postgres.create_database().replace(":secret@", ":hush@")
        env = {**os.environ, "TANDEM_HOME": str(tmp_path), "TANDEM_DATABASE_URL": wrong_url}

        response = subprocess.run(
            [str(TANDEM), "serve"],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        output = response.stdout + response.stderr
        assert response.returncode == 1
        assert "password authentication failed" in output
        assert "TANDEM_DATABASE_URL" in output
        assert "hush" not in output
        assert "Traceback" not in output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def allow_no_more_pages(connection: sqlite3.Connection, _record: object) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


def test_a_server_that_accepts_no_connection_in_time_is_unreachable() -> None:
    """psycopg's own class for it, which has no SQLSTATE."""
    cause = psycopg.errors.ConnectionTimeout("connection timeout expired")

    with pytest.raises(DatabaseUnreachable, match="timeout"), engine.translate_db_errors():
        raise DBAPIError.instance(None, None, cause, psycopg.Error)
