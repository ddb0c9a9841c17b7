"""What the service shows of itself: metrics, readiness, its log, traces, a quiet end."""

import threading
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from configs.protocol.failure import FailureReason
from service.adapters.prometheus import PrometheusMetrics
from service.domain.metrics.counters import COUNTER_DESCRIPTIONS
from service.loops.base import Loop
from tests.support.factories import a_spec
from tests.support.service.prometheus_samples import scraped
from tests.support.service.runs import a_started_run, deliver, metrics, outcome
from tests.support.service.stage import Stage

DOCUMENT = Path(__file__).parents[3] / "service" / "README.md"


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
