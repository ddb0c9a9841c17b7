"""What the service holds on to when things go wrong, and the API's promises beside a run's life."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from configs.protocol.names import RunFile
from configs.protocol.records import Delivery, Metrics, Outcome, Record, Started
from service.api.schemas.runs import RunRequest
from service.client import ServiceUnreachable, TandemApiError, TandemClient
from service.domain.access import LOCAL_CALLER
from service.domain.ports import Node
from service.loops.reconcile import Reconciler
from service.usecases.runs import launch as runs_launch
from service.usecases.runs import plan
from tests.conftest import Stage
from tests.factories import NO_HASH, a_bckd_spec, a_spec, write_checkpoint, write_dataset


class TestSilence:
    """When does a run of which nothing is heard count as lost or stalled?"""

    def test_after_an_outage_of_ours_a_worker_gets_its_time_to_report(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        stage.clock.advance(10_000)

        stage.restart()
        stage.turn()

        assert stage.run(run_id)["state"] == "running"
        assert stage.cluster.stopped == []

    def test_after_a_pause_between_two_turns_silence_counts_anew(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        stage.reconciler = Reconciler(stage.ctx)
        stage.clock.advance(10_000)

        stage.turn()

        assert stage.run(run_id)["state"] == "running"
        assert stage.cluster.stopped == []

    def test_a_worker_that_only_reaches_the_disk_is_not_silent(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        stage.clock.advance(301)
        write_spool(stage, run_id, [metrics(stage, 1)])

        stage.turn()

        assert stage.cluster.stopped == []
        assert stage.run(run_id)["latest"] == {"train/loss": 1.0}

    def test_a_head_that_shows_a_dead_job_as_running_is_asked_for_its_logs(
        self, stage: Stage
    ) -> None:
        run_id = a_running_run(stage)
        stage.clock.advance(100)

        stage.turn()
        stage.turn()

        assert stage.cluster.requested_logs == [f"{run_id}-a1"]

    def test_a_job_that_cannot_be_stopped_is_given_up_on(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        stage.cluster.ignores_stops = True
        stage.clock.advance(301)
        stage.turn()
        assert stage.run(run_id)["state"] == "running"

        stage.clock.advance(121)
        stage.turn()

        assert stage.run(run_id)["reason"] == "stalled"
        assert stage.run(run_id)["state"] == "queued"

    def test_a_job_that_is_never_taken_ends_as_lost(self, stage: Stage) -> None:
        run_id = a_starting_run(stage)
        stage.cluster.forget_jobs()
        stage.clock.advance(91)

        stage.turn()

        assert stage.run(run_id)["reason"] == "node_lost"


class TestAttempts:
    """One try after another."""

    def test_a_process_whose_attempt_was_given_up_is_refused_at_once(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
        stage.reconciler.run_once()
        assert stage.run(run_id)["state"] == "queued"

        response = deliver(stage, run_id, [])

        assert response.status_code == 409
        assert response.json()["code"] == "attempt_superseded"

    def test_a_heartbeat_after_a_gap_is_a_sign_of_life_too(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        stage.clock.advance(60)

        deliver(stage, run_id, [metrics(stage, 9)], first=7)

        last_seen_at = stage.run(run_id)["last_seen_at"]
        assert last_seen_at == stage.clock.now().isoformat().replace("+00:00", "Z")

    def test_each_says_where_it_ran_and_how_it_ended(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        deliver(stage, run_id, [started(stage)])
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
        stage.turn()
        stage.turn()

        first, second = stage.http.get(f"/v1/runs/{run_id}/attempts").json()

        assert first["host"] == "node-7"
        assert (first["exit_code"], first["reason"]) == (-9, "node_lost")
        assert first["ended_at"]
        assert second["submission_id"] == f"{run_id}-a2"
        assert second["ended_at"] is None

    def test_a_later_one_goes_on_with_the_files_of_the_first(self, stage: Stage) -> None:
        stage.add_teacher()
        run_id = a_running_run(stage, a_bckd_spec())
        spec_file = stage.home / "runs" / run_id / RunFile.SPEC
        before = spec_file.read_text()
        replace_teacher(stage)
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)

        stage.turn()
        stage.turn()

        assert stage.run(run_id)["attempt"] == 2
        assert spec_file.read_text() == before

    def test_a_teacher_run_is_handed_over_with_the_hash_of_its_checkpoint(
        self, stage: Stage
    ) -> None:
        teacher = a_running_run(stage)
        checkpoint = write_checkpoint(stage.home / "runs" / teacher / RunFile.BEST)
        student = stage.launch(spec=a_bckd_spec(teacher={"run": teacher}))["id"]
        deliver(stage, teacher, [outcome(stage, "succeeded")])
        stage.cluster.set_job_state(f"{teacher}-a1", "succeeded", exit_code=0)

        stage.turn()
        stage.turn()

        written = json.loads((stage.home / "runs" / student / RunFile.SPEC).read_text())
        assert written["teacher"]["checkpoint"] == str(checkpoint)
        assert written["teacher"]["sha256"] == stage.ctx.files.sha256(checkpoint)


class TestOneBadRun:
    """It keeps no other from its own."""

    def test_a_spool_that_cannot_be_read_ends_its_run_only(self, stage: Stage) -> None:
        bad, good = a_running_run(stage), a_running_run(stage)
        spool = stage.home / "runs" / bad / RunFile.SPOOL
        spool.write_bytes(b"\xff not a record\n")
        for run_id in (bad, good):
            stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=1)

        stage.turn()

        assert [stage.run(run_id)["state"] for run_id in (bad, good)] == ["failed", "failed"]

    def test_a_position_that_is_no_number_holds_up_its_own_run_only(self, stage: Stage) -> None:
        bad, good = a_running_run(stage), a_running_run(stage)
        (stage.home / "runs" / bad / "spool.mlflow.position").write_text("?")
        for run_id in (bad, good):
            stage.tracker.runs[run_id] = f"m-{run_id}"
            stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=1)

        stage.turn()

        assert stage.tracker.statuses == {f"m-{good}": "FAILED"}


class TestRoom:
    """Ray counts late, so we count too."""

    def test_what_was_started_a_moment_ago_is_not_free(self, stage: Stage) -> None:
        a_running_run(stage, resources={"num_cpus": 2})
        waiting = stage.launch(spec=a_spec(resources={"num_cpus": 1}))["id"]

        stage.turn()

        assert "to become free" in stage.run(waiting)["waiting_for"]

    def test_once_ray_has_counted_its_word_is_taken(self, stage: Stage) -> None:
        a_running_run(stage, resources={"num_cpus": 2})
        waiting = stage.launch(spec=a_spec(resources={"num_cpus": 1}))["id"]
        stage.cluster.cluster_nodes = (Node(4.0, 0.0, 2.0, 0.0),)
        stage.clock.advance(7)

        stage.turn()

        assert stage.run(waiting)["state"] == "starting"


class TestIdempotency:
    """A key belongs to one request."""

    def test_requests_at_the_same_time_make_one_run(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.add_dataset()
        request = plan.LaunchRun(spec=a_spec(), digest="d")
        all_have_looked = threading.Barrier(4)

        def nodes() -> tuple[Node, ...]:
            # Every request has found the key unused, and none has made its run yet.
            all_have_looked.wait(timeout=10)
            return stage.cluster.cluster_nodes

        monkeypatch.setattr(stage.cluster, "nodes", nodes)
        with ThreadPoolExecutor(4) as pool:
            launch = partial(
                runs_launch.launch_run, request, key="k", caller=LOCAL_CALLER, ctx=stage.ctx
            )
            made = [future.result() for future in [pool.submit(launch) for _ in range(4)]]

        assert len({run.id for run, _ in made}) == 1
        assert [is_new for _, is_new in made].count(True) == 1
        assert len(stage.http.get("/v1/runs").json()["items"]) == 1


class TestRegistry:
    """Datasets and teachers by name."""

    def test_the_same_dataset_again_changes_nothing(self, stage: Stage) -> None:
        root = write_dataset(stage.home / "datasets" / "pets")
        first = stage.http.post("/v1/datasets", json={"root": str(root)})
        stage.clock.advance(60)

        again = stage.http.post("/v1/datasets", json={"root": str(root)})

        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json() == first.json()

    def test_another_teacher_under_a_known_name_is_a_conflict(self, stage: Stage) -> None:
        stage.add_teacher(classes=("cat", "dog"))
        known = stage.http.get("/v1/teachers/big").json()
        body = {key: known[key] for key in ("name", "checkpoint", "detector")}

        response = stage.http.post("/v1/teachers", json=body | {"classes": ["dog", "cat"]})

        assert response.status_code == 409
        assert stage.http.get("/v1/teachers/big").json() == known

    def test_a_teacher_with_another_hash_than_said_is_refused(self, stage: Stage) -> None:
        stage.add_teacher()
        known = stage.http.get("/v1/teachers/big").json()
        body = {key: known[key] for key in ("checkpoint", "detector", "classes")}

        response = stage.http.post("/v1/teachers", json=body | {"name": "b", "sha256": NO_HASH})

        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == "sha256"


class TestHealth:
    @pytest.mark.parametrize("away", ["cluster", "tracker"])
    def test_the_service_says_which_part_does_not_answer(self, stage: Stage, away: str) -> None:
        getattr(stage, away).is_reachable = False

        health = stage.http.get("/readyz").json()

        assert health["status"] == "degraded"
        assert health["ray"] is (away != "cluster")
        assert health["mlflow"] is (away != "tracker")
        assert 'tandem_up{what="database"} 1.0' in stage.http.get("/metrics").text


class TestLogs:
    def test_of_a_job_that_left_no_file_rays_are_shown(self, stage: Stage) -> None:
        run_id = a_running_run(stage)
        stage.cluster.logs_by_job[f"{run_id}-a1"] = "tandem-worker: not found\n"
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=127)
        stage.turn()

        shown = stage.http.get(f"/v1/runs/{run_id}/logs").text
        followed = stage.http.get(f"/v1/runs/{run_id}/logs", params={"follow": True}).text

        assert shown == followed == "tandem-worker: not found\n"

    def test_of_a_run_that_does_not_exist_are_a_404_even_when_followed(self, stage: Stage) -> None:
        response = stage.http.get("/v1/runs/r1/logs", params={"follow": True})

        assert response.status_code == 404


class TestClient:
    def test_a_run_from_its_launch_to_its_end(self, stage: Stage) -> None:
        tandem = TandemClient("http://localhost", transport=stage.transport)
        root = write_dataset(stage.home / "datasets" / "pets")
        tandem.register_dataset(root)
        request = RunRequest(spec=a_spec(), name="mine")
        assert tandem.plan(request).findings == []

        run = tandem.launch(request, idempotency_key="k")
        stage.turn()
        deliver(stage, run.id, [metrics(stage, 1), outcome(stage, "succeeded")])
        stage.cluster.set_job_state(f"{run.id}-a1", "succeeded", exit_code=0)
        stage.turn()
        ended = tandem.wait(run.id, timeout_s=1)

        assert tandem.launch(request, idempotency_key="k").id == run.id
        assert (ended.name, ended.state) == ("mine", "succeeded")
        assert [point.value for point in tandem.metrics(run.id, key="train/loss")] == [1.0]
        assert [event.to_state for event in tandem.events(run.id)][-1] == "succeeded"
        assert [attempt.number for attempt in tandem.attempts(run.id)] == [1]
        assert [found.id for found in tandem.runs().items] == [run.id]
        assert "".join(tandem.follow_logs(run.id)) == tandem.logs(run.id) == ""
        assert tandem.health().status == "ready"
        assert "quick/instant" in [preset.name for preset in tandem.presets()]

    def test_a_refusal_carries_the_problem(self, stage: Stage) -> None:
        tandem = TandemClient("http://localhost", transport=stage.transport)

        with pytest.raises(TandemApiError) as caught:
            tandem.launch(RunRequest(spec=a_spec()))

        assert caught.value.problem.code == "spec_refused"
        assert caught.value.problem.advice
        assert [error.field for error in caught.value.problem.errors] == ["data.dataset.name"]

    def test_a_wait_that_is_too_short_says_where_the_run_is(self, stage: Stage) -> None:
        tandem = TandemClient("http://localhost", transport=stage.transport)
        run_id = a_starting_run(stage)

        with pytest.raises(TimeoutError, match="starting"):
            tandem.wait(run_id, timeout_s=0, poll_s=0)

    def test_without_a_service_it_says_how_to_start_one(self) -> None:
        with (
            TandemClient("http://127.0.0.1:9", timeout_s=2) as tandem,
            pytest.raises(ServiceUnreachable, match="tandem up"),
        ):
            tandem.runs()


def a_starting_run(stage: Stage, spec: dict[str, Any] | None = None, **changes: Any) -> str:
    stage.add_dataset()
    run_id: str = stage.launch(spec=spec or a_spec(**changes))["id"]
    stage.turn()
    return run_id


def a_running_run(stage: Stage, spec: dict[str, Any] | None = None, **changes: Any) -> str:
    run_id = a_starting_run(stage, spec, **changes)
    assert deliver(stage, run_id, []).is_success
    stage.cluster.set_job_state(f"{run_id}-a1", "running")
    return run_id


def deliver(stage: Stage, run_id: str, records: list[Record], *, first: int = 0) -> Any:
    body = Delivery(first=first, records=tuple(records)).model_dump(mode="json")
    return stage.http.post(f"/v1/runs/{run_id}/attempts/1/deliveries", json=body)


def write_spool(stage: Stage, run_id: str, records: list[Record]) -> None:
    lines = "".join(record.model_dump_json() + "\n" for record in records)
    (stage.home / "runs" / run_id / RunFile.SPOOL).write_text(lines)


def replace_teacher(stage: Stage) -> None:
    known = stage.http.get("/v1/teachers/big").json()
    body = {key: known[key] for key in ("name", "checkpoint", "detector", "classes")}
    (stage.home / "teachers" / "big.pth").write_bytes(b"other weights")
    assert stage.http.post("/v1/teachers", json=body | {"replace": True}).is_success


def metrics(stage: Stage, step: int) -> Metrics:
    return Metrics(at=stage.clock.now(), attempt=1, step=step, values={"train/loss": 1.0})


def outcome(stage: Stage, result: Any) -> Outcome:
    return Outcome(at=stage.clock.now(), attempt=1, result=result)


def started(stage: Stage) -> Started:
    return Started(
        at=stage.clock.now(),
        attempt=1,
        host="node-7",
        pid=1,
        device="cpu",
        resumed_from_epoch=0,
        teacher_sha256=None,
        dataset_name="pets",
        dataset_digest=NO_HASH,
        versions={},
    )
