"""`/readyz` checks each dependency, and none of them can block the response."""

import threading
import time
from pathlib import Path

import pytest

from service.adapters.clock import FixedClock
from service.client import TandemClient
from service.usecases.health import HealthMonitor
from tests.support.service.prometheus_samples import scrape_samples
from tests.support.service.stage import Stage, open_stage


class TestReadiness:
    """Checks of all dependencies."""

    def test_free_space_is_known_before_the_first_run(self, stage: Stage) -> None:
        assert not (stage.home / "runs").exists()

        assert stage.ctx.files.free_bytes() > 0

    def test_with_all_dependencies_it_is_ready(self, stage: Stage) -> None:
        response = stage.http.get("/readyz")

        assert (response.status_code, response.json()["status"]) == (200, "ready")
        names = [check["name"] for check in response.json()["checks"]]
        assert names == ["database", "ray", "mlflow", "run folders", "disk", "loops"]

    @pytest.mark.parametrize("system", ["cluster", "tracker"])
    def test_an_outage_of_ray_or_mlflow_only_degrades_it(self, stage: Stage, system: str) -> None:
        getattr(stage, system).is_reachable = False

        response = stage.http.get("/readyz")

        assert (response.status_code, response.json()["status"]) == (200, "degraded")

    def test_without_a_folder_for_runs_it_is_unready(self, stage: Stage) -> None:
        (stage.home / "runs").write_text("a file")

        response = stage.http.get("/readyz")

        assert (response.status_code, response.json()["status"]) == (503, "unready")
        failed = [check["name"] for check in response.json()["checks"] if not check["ok"]]
        assert "run folders" in failed
        with TandemClient("http://localhost", transport=stage.transport) as client:
            assert client.health().status == "unready"

    def test_without_a_database_it_is_unready(
        self, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        server = request.getfixturevalue("postgres")
        with open_stage(tmp_path, database_url=server.create_database()) as stage:
            server.stop()
            try:
                response = stage.http.get("/readyz")
                assert scrape_samples(stage)["tandem_up", ("database",)] == 0
            finally:
                server.start()

        assert response.status_code == 503
        assert "secret" not in response.text

    def test_a_hanging_dependency_does_not_block_the_others(self, stage: Stage) -> None:
        release = threading.Event()
        stage.cluster.nodes = release.wait  # type: ignore[assignment,method-assign]
        health = HealthMonitor(stage.ctx, dict)
        started_s = time.monotonic()

        checks = {check.name: check for check in health.checks()}

        assert time.monotonic() - started_s < 3.0
        assert not checks["ray"].ok
        assert checks["mlflow"].ok
        release.set()
        health.close()

    def test_a_state_keeps_its_start_time(self, stage: Stage) -> None:
        health = HealthMonitor(stage.ctx, dict)
        assert isinstance(stage.clock, FixedClock)
        first_check_at = stage.clock.now()
        health.checks()
        stage.clock.advance(60)
        health._checked_at_s = 0.0

        (database, *_) = health.checks()

        assert database.since == first_check_at
        health.close()

    def test_a_stalled_loop_makes_it_unready(self, stage: Stage) -> None:
        health = HealthMonitor(stage.ctx, lambda: {"reconcile": 61.0, "submit": 1.0})

        assert health.readiness() == "unready"
        health.close()
