"""`/readyz`: each dependency is checked, and none of them can block the answer."""

import threading
import time
from pathlib import Path

import pytest

from service.adapters.clock import FixedClock
from service.client import TandemClient
from service.usecases.health import HealthMonitor
from tests.support.service.prometheus_samples import scraped
from tests.support.service.stage import Stage, open_stage


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
