"""The event log over the API: paged, filtered by project, followed, without loss or duplicates."""

from pathlib import Path

from service.domain.runs import Event
from service.store.database import Database
from service.usecases.runs.events import follow_events
from tests.support.factories import a_spec
from tests.support.service.postgres import Postgres
from tests.support.service.runs import a_started_run
from tests.support.service.stage import Stage, open_stage


class TestEvents:
    """Everything that happened, in its order."""

    def test_those_after_one_of_them(self, stage: Stage) -> None:
        run_id = a_started_run(stage)
        events = stage.http.get(f"/v1/runs/{run_id}/events").json()

        rest = stage.http.get(f"/v1/runs/{run_id}/events?after={events[0]['id']}").json()
        of_all = stage.http.get("/v1/events", params={"after": 0, "limit": 1}).json()

        assert rest == events[1:]
        assert of_all == events[:1]

    def test_those_of_a_project(self, stage: Stage) -> None:
        stage.add_dataset()
        ours = stage.launch(spec=a_spec(), project="ours")["id"]
        stage.launch(spec=a_spec())

        found = stage.http.get("/v1/events", params={"project": "ours"}).json()

        assert {event["run_id"] for event in found} == {ours}

    def test_they_are_told_as_they_happen_and_once(self, any_stage: Stage) -> None:
        stage = any_stage
        following = follow_events(None, run_id=None, project=None, ctx=stage.ctx)
        assert next(following) is None
        stage.add_dataset()

        stage.launch(spec=a_spec())
        told = [next(following), next(following)]
        stage.clock.advance(90)
        told.append(next(following))
        stage.turn()
        told += [next(following), next(following)]

        assert [event and event.kind for event in told] == [
            "launched",
            None,
            None,
            "moved",
            None,
        ]

    def test_one_whose_transaction_ends_late_is_not_lost(
        self, postgres: Postgres, tmp_path: Path
    ) -> None:
        with open_stage(tmp_path, database_url=postgres.fresh()) as stage:
            stage.add_dataset()
            run_id = stage.launch(spec=a_spec())["id"]
            following = follow_events(None, run_id=None, project=None, ctx=stage.ctx)
            assert next(following) is None
            store = stage.ctx.store
            assert isinstance(store, Database)
            slow = store.clone()
            now = stage.clock.now()
            with slow.transaction() as late:
                late.events.add(Event(run_id, now, "a", "late", ""))
                with store.transaction() as quick:
                    quick.events.add(Event(run_id, now, "b", "quick", ""))
                first = next(following)
            slow.close()

            rest = [next(following), next(following)]

        assert first is not None
        assert first.kind == "quick"
        assert "late" in [event.kind for event in rest if event]
