"""The API: idempotency, registry, health, logs, and the typed client."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from service.api.schemas.runs import RunRequest
from service.cli.session import resolve_run_id
from service.client import TandemClient
from service.client_transport import ServiceUnreachable, TandemApiError
from service.domain.access import LOCAL_CALLER
from service.domain.ports import Node
from service.usecases.runs import launch as runs_launch
from service.usecases.runs import plan
from tests.support.factories import NO_HASH, make_spec, write_dataset
from tests.support.service.runs import (
    deliver,
    make_metrics,
    make_outcome,
    start_running_run,
    submit_run,
)
from tests.support.service.stage import Stage


class CountingTransport(httpx.BaseTransport):
    """Counts the requests that it passes on."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.requests = 0
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return self._inner.handle_request(request)


class TestIdempotency:
    """An idempotency key belongs to one request."""

    def test_requests_at_the_same_time_make_one_run(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stage.add_dataset()
        request = plan.LaunchRun(spec=make_spec(), digest="d")
        all_have_checked = threading.Barrier(4)

        def list_nodes() -> tuple[Node, ...]:
            # Every request has found the key unused, and none has created its run yet.
            all_have_checked.wait(timeout=10)
            return stage.cluster.cluster_nodes

        monkeypatch.setattr(stage.cluster, "nodes", list_nodes)
        with ThreadPoolExecutor(4) as pool:
            launch = partial(
                runs_launch.launch_run, request, key="k", caller=LOCAL_CALLER, ctx=stage.ctx
            )
            results = [future.result() for future in [pool.submit(launch) for _ in range(4)]]

        assert len({run.id for run, _ in results}) == 1
        assert [is_new for _, is_new in results].count(True) == 1
        assert len(stage.http.get("/v1/runs").json()["items"]) == 1


class TestRegistry:
    """Registered datasets and teachers."""

    def test_the_same_dataset_again_changes_nothing(self, stage: Stage) -> None:
        root = write_dataset(stage.home / "datasets" / "pets")
        first = stage.http.post("/v1/datasets", json={"root": str(root)})
        stage.clock.advance(60)

        repeated = stage.http.post("/v1/datasets", json={"root": str(root)})

        assert (first.status_code, repeated.status_code) == (201, 200)
        assert repeated.json() == first.json()

    def test_another_teacher_under_a_known_name_is_a_conflict(self, stage: Stage) -> None:
        stage.add_teacher(classes=("cat", "dog"))
        registered = stage.http.get("/v1/teachers/big").json()
        body = {key: registered[key] for key in ("name", "checkpoint", "detector")}

        response = stage.http.post("/v1/teachers", json=body | {"classes": ["dog", "cat"]})

        assert response.status_code == 409
        assert stage.http.get("/v1/teachers/big").json() == registered

    def test_a_teacher_with_another_hash_than_given_is_refused(self, stage: Stage) -> None:
        stage.add_teacher()
        registered = stage.http.get("/v1/teachers/big").json()
        body = {key: registered[key] for key in ("checkpoint", "detector", "classes")}

        response = stage.http.post("/v1/teachers", json=body | {"name": "b", "sha256": NO_HASH})

        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == "sha256"


class TestHealth:
    @pytest.mark.parametrize("dependency", ["cluster", "tracker"])
    def test_the_service_says_which_part_does_not_answer(
        self, stage: Stage, dependency: str
    ) -> None:
        getattr(stage, dependency).is_reachable = False

        health = stage.http.get("/readyz").json()

        assert health["status"] == "degraded"
        assert health["ray"] is (dependency != "cluster")
        assert health["mlflow"] is (dependency != "tracker")
        assert 'tandem_up{check="database"} 1.0' in stage.http.get("/metrics").text


class TestLogs:
    def test_without_a_log_file_the_log_of_ray_is_shown(self, stage: Stage) -> None:
        run_id = start_running_run(stage)
        stage.cluster.logs_by_job[f"{run_id}-a1"] = "tandem-worker: not found\n"
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=127)
        stage.run_loops()

        text = stage.http.get(f"/v1/runs/{run_id}/logs").text
        followed = stage.http.get(f"/v1/runs/{run_id}/logs", params={"follow": True}).text

        assert text == followed == "tandem-worker: not found\n"

    def test_of_a_run_that_does_not_exist_are_a_404_even_when_followed(self, stage: Stage) -> None:
        response = stage.http.get("/v1/runs/r1/logs", params={"follow": True})

        assert response.status_code == 404


class TestClient:
    def test_a_run_from_its_launch_to_its_end(self, stage: Stage) -> None:
        tandem = TandemClient("http://localhost", transport=stage.transport)
        root = write_dataset(stage.home / "datasets" / "pets")
        tandem.register_dataset(root)
        request = RunRequest(spec=make_spec(), name="mine")
        assert tandem.plan(request).findings == []

        run = tandem.launch(request, idempotency_key="k")
        stage.run_loops()
        deliver(stage, run.id, [make_metrics(stage, 1, loss=1.0), make_outcome(stage, "succeeded")])
        stage.cluster.set_job_state(f"{run.id}-a1", "succeeded", exit_code=0)
        stage.run_loops()
        finished = tandem.wait(run.id, timeout_s=1)

        assert tandem.launch(request, idempotency_key="k").id == run.id
        assert (finished.name, finished.state) == ("mine", "succeeded")
        assert [point.value for point in tandem.metrics(run.id, key="train/loss")] == [1.0]
        assert [event.to_state for event in tandem.events(run.id)][-1] == "succeeded"
        assert [attempt.number for attempt in tandem.attempts(run.id)] == [1]
        assert [item.id for item in tandem.runs().items] == [run.id]
        assert "".join(tandem.follow_logs(run.id)) == tandem.logs(run.id) == ""
        assert tandem.health().status == "ready"
        assert "quick/instant" in [preset.name for preset in tandem.presets()]

    def test_a_prefix_of_an_id_takes_one_request(self, stage: Stage) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=make_spec())["id"]
        stage.launch(spec=make_spec(seed=1))
        transport = CountingTransport(stage.transport)

        with TandemClient("http://localhost", transport=transport) as tandem:
            assert resolve_run_id(tandem, run_id[:12]) == run_id

        assert transport.requests == 1

    def test_a_refusal_carries_the_problem(self, stage: Stage) -> None:
        tandem = TandemClient("http://localhost", transport=stage.transport)

        with pytest.raises(TandemApiError) as exc_info:
            tandem.launch(RunRequest(spec=make_spec()))

        assert exc_info.value.problem.code == "spec_refused"
        assert exc_info.value.problem.advice
        assert [error.field for error in exc_info.value.problem.errors] == ["data.dataset.name"]

    def test_a_wait_that_is_too_short_says_where_the_run_is(self, stage: Stage) -> None:
        tandem = TandemClient("http://localhost", transport=stage.transport)
        run_id = submit_run(stage)

        with pytest.raises(TimeoutError, match="starting"):
            tandem.wait(run_id, timeout_s=0, poll_s=0)

    def test_without_a_service_it_says_how_to_start_one(self) -> None:
        with (
            TandemClient("http://127.0.0.1:9", timeout_s=2) as tandem,
            pytest.raises(ServiceUnreachable, match="tandem up"),
        ):
            tandem.runs()
