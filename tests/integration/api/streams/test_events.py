"""The event log over the API: paged, filtered by project, followed, without loss or duplicates."""

from pathlib import Path

from service.domain.runs import Event
from service.domain.vocabulary import EventKind
from service.store.database import Database
from service.usecases.runs.events import EventReader
from tests.support.factories import make_spec
from tests.support.service.postgres import Postgres
from tests.support.service.runs import submit_run
from tests.support.service.stage import Stage, open_stage


def test_the_names_of_server_sent_events_are_documented(stage: Stage) -> None:
    paths = stage.http.get("/openapi.json").json()["paths"]

    events = paths["/v1/events/stream"]["get"]["description"]
    logs = paths["/v1/runs/{run_id}/logs"]["get"]["description"]

    assert [kind for kind in EventKind if f"`{kind}`" not in events] == []
    assert "one event `end`" in logs


class TestEvents:
    """Events in their order."""

    def test_those_after_one_of_them(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        events = stage.http.get(f"/v1/runs/{run_id}/events").json()["items"]

        first_page = stage.http.get("/v1/events", params={"limit": 1}).json()
        cursor = first_page["next_cursor"]
        remaining = stage.http.get(f"/v1/runs/{run_id}/events", params={"cursor": cursor}).json()

        assert first_page["items"] == events[:1]
        assert remaining == {"items": events[1:], "next_cursor": None}

    def test_those_of_a_project(self, stage: Stage) -> None:
        stage.add_dataset()
        own_run_id = stage.launch(spec=make_spec(), project="ours")["id"]
        stage.launch(spec=make_spec())

        own_events = stage.http.get("/v1/events", params={"project": "ours"}).json()["items"]

        assert {event["run_id"] for event in own_events} == {own_run_id}

    def test_each_is_read_once_when_it_is_visible(self, any_stage: Stage) -> None:
        stage = any_stage
        reader = EventReader(stage.ctx)
        assert reader.read() == []
        stage.add_dataset()

        stage.launch(spec=make_spec())
        received = [reader.read(), reader.read()]
        stage.clock.advance(90)
        received.append(reader.read())
        stage.run_loops()
        received += [reader.read(), reader.read()]

        assert [[item.event.kind for item in items] for items in received] == [
            ["launched"],
            [],
            [],
            ["state_changed"],
            [],
        ]

    def test_one_whose_transaction_ends_late_is_not_lost(
        self, postgres: Postgres, tmp_path: Path
    ) -> None:
        with open_stage(tmp_path, database_url=postgres.create_database()) as stage:
            stage.add_dataset()
            run_id = stage.launch(spec=make_spec())["id"]
            reader = EventReader(stage.ctx)
            store = stage.ctx.store
            assert isinstance(store, Database)
            slow = store.clone()
            now = stage.clock.now()
            with slow.transaction() as late:
                late.events.add(Event(run_id, now, "late", EventKind.NOTE, ""))
                with store.transaction() as quick:
                    quick.events.add(Event(run_id, now, "quick", EventKind.NOTE, ""))
                first = reader.read()
                new_reader = EventReader(stage.ctx)
            slow.close()

            actors = [
                [item.event.actor for item in items]
                for items in (first, reader.read(), reader.read(), new_reader.read())
            ]

        assert actors == [["quick"], ["late"], [], ["late"]]
