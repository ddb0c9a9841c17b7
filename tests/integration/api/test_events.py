"""The event log over the API: paged, filtered by project, followed, without loss or duplicates."""

from pathlib import Path

from service.domain.runs import Event, EventKind
from service.store.database import Database
from service.usecases.runs.events import follow_events
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
        events = stage.http.get(f"/v1/runs/{run_id}/events").json()

        remaining = stage.http.get(f"/v1/runs/{run_id}/events?after={events[0]['id']}").json()
        first_page = stage.http.get("/v1/events", params={"after": 0, "limit": 1}).json()

        assert remaining == events[1:]
        assert first_page == events[:1]

    def test_those_of_a_project(self, stage: Stage) -> None:
        stage.add_dataset()
        own_run_id = stage.launch(spec=make_spec(), project="ours")["id"]
        stage.launch(spec=make_spec())

        own_events = stage.http.get("/v1/events", params={"project": "ours"}).json()

        assert {event["run_id"] for event in own_events} == {own_run_id}

    def test_they_are_streamed_once_as_they_happen(self, any_stage: Stage) -> None:
        stage = any_stage
        following = follow_events(None, run_id=None, project=None, ctx=stage.ctx)
        assert next(following) is None
        stage.add_dataset()

        stage.launch(spec=make_spec())
        received = [next(following), next(following)]
        stage.clock.advance(90)
        received.append(next(following))
        stage.run_loops()
        received += [next(following), next(following)]

        assert [event and event.kind for event in received] == [
            "launched",
            None,
            None,
            "state_changed",
            None,
        ]

    def test_one_whose_transaction_ends_late_is_not_lost(
        self, postgres: Postgres, tmp_path: Path
    ) -> None:
        with open_stage(tmp_path, database_url=postgres.create_database()) as stage:
            stage.add_dataset()
            run_id = stage.launch(spec=make_spec())["id"]
            following = follow_events(None, run_id=None, project=None, ctx=stage.ctx)
            assert next(following) is None
            store = stage.ctx.store
            assert isinstance(store, Database)
            slow = store.clone()
            now = stage.clock.now()
            with slow.transaction() as late:
                late.events.add(Event(run_id, now, "late", EventKind.NOTE, ""))
                with store.transaction() as quick:
                    quick.events.add(Event(run_id, now, "quick", EventKind.NOTE, ""))
                first = next(following)
            slow.close()

            remaining = [next(following), next(following)]

        assert first is not None
        assert first.actor == "quick"
        assert "late" in [event.actor for event in remaining if event]
