"""Metrics of the service itself, its readiness, log and traces, and its shutdown."""

import threading
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from configs.protocol.failure import FailureReason
from service.adapters.prometheus import PrometheusMetrics
from service.domain.metrics.counters import COUNTER_DESCRIPTIONS
from service.loops.base import Loop
from tests.support.factories import make_spec
from tests.support.service.prometheus_samples import scrape_samples
from tests.support.service.runs import deliver, make_metrics, make_outcome, submit_run
from tests.support.service.stage import Stage

DOCUMENT = Path(__file__).parents[3] / "service" / "README.md"


class TestMetrics:
    """The metrics that Prometheus reads."""

    def test_runs_queue_and_attempts_are_counted(self, any_stage: Stage) -> None:
        stage = any_stage
        run_id = submit_run(stage)
        stage.launch(spec=make_spec(), project="other")
        outcome = make_outcome(stage, "failed").model_copy(
            update={"reason": FailureReason.NAN_LOSS}
        )
        deliver(stage, run_id, [make_metrics(stage, 1, loss=1.0), outcome])
        stage.clock.advance(100)
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=10)
        stage.reconciler.run_once()

        samples = scrape_samples(stage)

        assert samples["tandem_runs", ("default", "failed")] == 1
        assert samples["tandem_queue_depth", ("other",)] == 1
        assert samples["tandem_queue_oldest_seconds", ("other",)] == 100
        assert samples["tandem_attempts_ended", ("nan_loss",)] == 1
        assert samples["tandem_cpu_seconds", ("default",)] == 100
        assert samples["tandem_gpu_seconds", ("default",)] == 0
        assert samples["tandem_deliveries_total", ()] == 1
        assert samples["tandem_records_total", ()] == 2
        assert samples["tandem_http_requests_total", ("/v1/runs", "POST", "201")] == 2
        assert samples["tandem_mlflow_unsynced_runs", ()] == 1

    def test_time_that_was_spent_is_counted_once(self, stage: Stage) -> None:
        run_id = submit_run(stage, resources={"num_cpus": 2})
        stage.clock.advance(10)
        assert scrape_samples(stage)["tandem_cpu_seconds", ("default",)] == 20
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=10)
        stage.run_loops()

        for _ in range(2):
            stage.clock.advance(10)
            assert scrape_samples(stage)["tandem_cpu_seconds", ("default",)] == 20

    def test_silence_is_seen_before_it_is_acted_on(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        deliver(stage, run_id, [])
        stage.clock.advance(61)

        samples = scrape_samples(stage)

        assert (
            samples["tandem_heartbeat_age_seconds", ()],
            samples["tandem_stale_heartbeat_runs", ()],
        ) == (61, 1)

    def test_what_does_not_answer_is_zero(self, stage: Stage) -> None:
        stage.cluster.is_reachable = False

        samples = scrape_samples(stage)

        assert (samples["tandem_up", ("ray",)], samples["tandem_up", ("database",)]) == (0, 1)

    def test_every_metric_is_in_the_document_and_the_other_way_round(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        deliver(stage, run_id, [])
        text = stage.http.get("/metrics").text
        families = {family.name for family in text_string_to_metric_families(text)}
        exported = {name for name in families if name.startswith("tandem_")}
        exported -= {f"tandem_{name}_created" for name in COUNTER_DESCRIPTIONS}

        document = DOCUMENT.read_text(encoding="utf-8")

        documented = {
            word for word in document.replace("`", " ").split() if word.startswith("tandem_")
        }
        assert {name for name in exported if not name.endswith("_created")} == documented

    def test_a_loop_that_turns_has_no_lag_and_one_that_fails_is_counted(self, stage: Stage) -> None:
        meters = PrometheusMetrics("1")
        has_succeeded, has_failed = threading.Event(), threading.Event()

        def fail() -> None:
            has_failed.set()
            raise ZeroDivisionError

        loops = [
            Loop("good", has_succeeded.set, interval_s=0.01, turn_context=meters.observe_turn),
            Loop("bad", fail, interval_s=0.01, turn_context=meters.observe_turn),
        ]
        for loop in loops:
            loop.start()
        has_succeeded.wait(5)
        has_failed.wait(5)
        for loop in loops:
            loop.stop(timeout_s=5)

        text = meters.render().decode()

        assert 'tandem_loop_lag_seconds{loop="good"}' in text
        assert 'tandem_loop_failures_total{loop="bad"} 1.0' in text
        assert 'tandem_loop_lag_seconds{loop="bad"}' not in text
