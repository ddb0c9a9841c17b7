"""What the service shows of itself: metrics, readiness, its log, traces, a quiet end."""

import http.server
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from configs.protocol.failure import FailureReason
from service.adapters.clock import FixedClock
from service.adapters.prometheus import PrometheusMetrics
from service.client import TandemClient
from service.domain.metrics.counters import COUNTER_DESCRIPTIONS
from service.log import configure_logging, redact_secrets
from service.loops.base import Loop
from service.loops.reconcile import Reconciler
from service.stack.ports import choose_free_port
from service.usecases.health import HealthMonitor
from tests.conftest import Stage, open_stage
from tests.factories import a_spec
from tests.integration.test_logs_and_events import a_run_that_trains, a_service
from tests.integration.test_run_life import a_started_run, deliver, metrics, outcome

DOCUMENT = Path(__file__).parents[2] / "service" / "README.md"


def scraped(stage: Stage) -> dict[tuple[str, tuple[str, ...]], float]:
    text = stage.http.get("/metrics").text
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestMetrics:
    """What Prometheus reads."""

    def test_runs_queue_and_attempts_are_counted(self, any_stage: Stage) -> None:
        stage = any_stage
        run_id = a_started_run(stage)
        stage.launch(spec=a_spec(), project="other")
        said = outcome(stage, "failed").model_copy(update={"reason": FailureReason.NAN_LOSS})
        deliver(stage, run_id, [metrics(stage, 1, loss=1.0), said])
        stage.clock.advance(100)
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=10)
        stage.reconciler.run_once()

        seen = scraped(stage)

        assert seen["tandem_runs", ("default", "failed")] == 1
        assert seen["tandem_queue_depth", ("other",)] == 1
        assert seen["tandem_queue_oldest_seconds", ("other",)] == 100
        assert seen["tandem_attempts_ended", ("nan_loss",)] == 1
        assert seen["tandem_cpu_seconds", ("default",)] == 100
        assert seen["tandem_gpu_seconds", ("default",)] == 0
        assert seen["tandem_deliveries_total", ()] == 1
        assert seen["tandem_records_total", ()] == 2
        assert seen["tandem_http_requests_total", ("/v1/runs", "POST", "201")] == 2
        assert seen["tandem_mlflow_unsynced_runs", ()] == 1

    def test_time_that_was_spent_is_counted_once(self, stage: Stage) -> None:
        run_id = a_started_run(stage, resources={"num_cpus": 2})
        stage.clock.advance(10)
        assert scraped(stage)["tandem_cpu_seconds", ("default",)] == 20
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=10)
        stage.turn()

        for _ in range(2):
            stage.clock.advance(10)
            assert scraped(stage)["tandem_cpu_seconds", ("default",)] == 20

    def test_silence_is_seen_before_it_is_acted_on(self, stage: Stage) -> None:
        run_id = a_started_run(stage)
        deliver(stage, run_id, [])
        stage.clock.advance(61)

        seen = scraped(stage)

        assert (
            seen["tandem_heartbeat_age_seconds", ()],
            seen["tandem_stale_heartbeat_runs", ()],
        ) == (61, 1)

    def test_what_does_not_answer_is_zero(self, stage: Stage) -> None:
        stage.cluster.is_reachable = False

        seen = scraped(stage)

        assert (seen["tandem_up", ("ray",)], seen["tandem_up", ("database",)]) == (0, 1)

    def test_every_metric_is_in_the_document_and_the_other_way_round(self, stage: Stage) -> None:
        run_id = a_started_run(stage)
        deliver(stage, run_id, [])
        text = stage.http.get("/metrics").text
        families = {family.name for family in text_string_to_metric_families(text)}
        ours = {name for name in families if name.startswith("tandem_")}
        ours -= {f"tandem_{name}_created" for name in COUNTER_DESCRIPTIONS}

        document = DOCUMENT.read_text(encoding="utf-8")

        told = {word for word in document.replace("`", " ").split() if word.startswith("tandem_")}
        assert {name for name in ours if not name.endswith("_created")} == told

    def test_a_loop_that_turns_has_no_lag_and_one_that_fails_is_counted(self, stage: Stage) -> None:
        meters = PrometheusMetrics("1")
        turned, fails = threading.Event(), threading.Event()

        def fail() -> None:
            fails.set()
            raise ZeroDivisionError

        loops = [
            Loop("good", turned.set, interval_s=0.01, turn_context=meters.observe_turn),
            Loop("bad", fail, interval_s=0.01, turn_context=meters.observe_turn),
        ]
        for loop in loops:
            loop.start()
        turned.wait(5)
        fails.wait(5)
        for loop in loops:
            loop.stop(timeout_s=5)

        text = meters.render().decode()

        assert 'tandem_loop_lag_seconds{loop="good"}' in text
        assert 'tandem_loop_failures_total{loop="bad"} 1.0' in text
        assert 'tandem_loop_lag_seconds{loop="bad"}' not in text


class TestReadiness:
    """Each thing that is needed, honestly."""

    def test_room_is_found_before_anything_was_ever_written(self, stage: Stage) -> None:
        assert not (stage.home / "runs").exists()

        assert stage.ctx.files.free_bytes() > 0

    def test_everything_is_there(self, stage: Stage) -> None:
        answer = stage.http.get("/readyz")

        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        names = [check["name"] for check in answer.json()["checks"]]
        assert names == ["database", "ray", "mlflow", "run folders", "disk", "loops"]

    @pytest.mark.parametrize("system", ["cluster", "tracker"])
    def test_what_runs_wait_for_is_no_reason_to_take_the_service_down(
        self, stage: Stage, system: str
    ) -> None:
        getattr(stage, system).is_reachable = False

        answer = stage.http.get("/readyz")

        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")

    def test_without_a_place_for_runs_nothing_goes_on(self, stage: Stage) -> None:
        (stage.home / "runs").write_text("a file")

        answer = stage.http.get("/readyz")

        assert (answer.status_code, answer.json()["status"]) == (503, "unready")
        wrong = [check["name"] for check in answer.json()["checks"] if not check["ok"]]
        assert "run folders" in wrong
        with TandemClient("http://localhost", transport=stage.transport) as client:
            assert client.health().status == "unready"

    def test_without_a_database_too(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        server = request.getfixturevalue("postgres")
        with open_stage(tmp_path, database_url=server.fresh()) as stage:
            server.stop()
            try:
                answer = stage.http.get("/readyz")
                assert scraped(stage)["tandem_up", ("database",)] == 0
            finally:
                server.start()

        assert answer.status_code == 503
        assert "secret" not in answer.text

    def test_who_hangs_holds_nobody_up(self, stage: Stage) -> None:
        release = threading.Event()
        stage.cluster.nodes = release.wait  # type: ignore[assignment,method-assign]
        health = HealthMonitor(stage.ctx, dict)
        began_s = time.monotonic()

        checks = {check.name: check for check in health.checks()}

        assert time.monotonic() - began_s < 3.0
        assert not checks["ray"].ok
        assert checks["mlflow"].ok
        release.set()
        health.close()

    def test_since_when_it_is_so_is_kept(self, stage: Stage) -> None:
        health = HealthMonitor(stage.ctx, dict)
        assert isinstance(stage.clock, FixedClock)
        began = stage.clock.now()
        health.checks()
        stage.clock.advance(60)
        health._asked_at_s = 0.0

        (database, *_) = health.checks()

        assert database.since == began
        health.close()

    def test_a_loop_that_stands_still_is_told(self, stage: Stage) -> None:
        health = HealthMonitor(stage.ctx, lambda: {"reconcile": 61.0, "submit": 1.0})

        assert health.readiness() == "unready"
        health.close()


class TestLog:
    """One event a line, without secrets."""

    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            ("token tdm_0123456789_abcDEF-_x was shown", "token td*_... was shown"),
            ("tdw_r1.2.abcdef", "td*_..."),
            ("Authorization: Bearer abc.def", "Authorization: Bearer ..."),
            ("postgresql://me:secret@host/db", "postgresql://me:...@host/db"),
            ("http://127.0.0.1:8700/v1/runs", "http://127.0.0.1:8700/v1/runs"),
        ],
    )
    def test_secrets_are_not_written(self, text: str, kept: str) -> None:
        assert redact_secrets(text) == kept

    def test_as_json_a_line_is_a_document_with_the_request(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with open_stage(tmp_path, log_format="json") as stage:
            stage.http.get("/v1/runs", headers={"X-Request-ID": "mine"})
        configure_logging()

        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

        (line,) = [line for line in lines if line["event"] == "request"]
        assert (line["request_id"], line["path"], line["status"]) == ("mine", "/v1/runs", 200)

    def test_what_a_loop_says_names_its_run(
        self, stage: Stage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_id = a_started_run(stage)

        def fail(_: str) -> None:
            raise ZeroDivisionError

        stage.cluster.get_job = fail  # type: ignore[assignment]
        Reconciler(stage.ctx).run_once()

        assert f"run_id={run_id}" in capsys.readouterr().out


def test_traces_go_where_they_are_asked_to(tmp_path: Path) -> None:
    with a_collector() as (port, bodies):
        endpoint = f"http://127.0.0.1:{port}"
        with open_stage(tmp_path, otel_endpoint=endpoint) as stage:
            stage.http.get("/v1/runs")

    assert bodies
    assert b"/v1/runs" in b"".join(bodies)


def test_a_service_that_is_told_to_end_lets_go_of_those_who_listen(tmp_path: Path) -> None:
    port = choose_free_port()
    service = a_service(tmp_path, port)
    run_id = a_run_that_trains(tmp_path)
    ended = threading.Event()

    def listen() -> None:
        url = f"http://127.0.0.1:{port}/v1/runs/{run_id}/logs?follow=true"
        events = {"Accept": "text/event-stream"}
        # Cut off or at its end: either way the client comes back with its last id.
        with (
            suppress(httpx.TransportError),
            httpx.stream("GET", url, headers=events, timeout=30) as stream,
        ):
            for _ in stream.iter_raw():
                pass
        ended.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    time.sleep(1.0)
    began_s = time.monotonic()

    service.send_signal(signal.SIGTERM)
    code = service.wait(timeout=20)

    assert time.monotonic() - began_s < 8.0
    assert ended.wait(5)
    assert code in (0, -signal.SIGTERM)


@contextmanager
def a_collector() -> Iterator[tuple[int, list[bytes]]]:
    """Takes traces as a collector does."""
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1], bodies
        server.shutdown()
        thread.join()
