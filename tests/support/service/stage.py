"""A service with a simulated cluster and tracker, whose loops a test runs step by step."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from configs.spec.dataset import DatasetManifest
from configs.spec.detector import Detector
from service.adapters.clock import FixedClock
from service.adapters.simulated import SimulatedCluster, SimulatedTracker
from service.loops.autopilots import AutopilotLoop
from service.loops.comparisons import compare_baselines
from service.loops.reconcile import Reconciler
from service.loops.submit import Submitter
from service.loops.sweeps import SweepReconciler
from service.loops.tracker_sync import TrackerSync
from service.main import create_app
from service.settings import Settings
from service.store.database import Database
from service.usecases.context import Context
from tests.support.factories import CLASSES, make_detector_spec, write_checkpoint, write_dataset
from tests.support.service.asgi import AsgiTransport

ON_BOTH_DATABASES = pytest.mark.parametrize("stage", ["sqlite", "postgresql"], indirect=True)
"""Runs a test that asks for `stage` on SQLite and on PostgreSQL."""

SLOW_ON_POSTGRESQL = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
"""Runs a test that asks for `any_stage` or `database_url` on PostgreSQL only with the slow tests,
because its queries have tests of their own on both."""


@dataclass
class Stage:
    """A service without threads: its loops run when a test calls `run_loops`."""

    app: FastAPI
    http: httpx.Client
    home: Path
    cluster: SimulatedCluster
    tracker: SimulatedTracker
    clock: FixedClock
    submitter: Submitter
    reconciler: Reconciler
    tracker_sync: TrackerSync
    sweeps: SweepReconciler
    autopilots: AutopilotLoop
    transport: AsgiTransport

    @property
    def ctx(self) -> Context:
        ctx: Context = self.app.state.ctx
        return ctx

    def run_loops(self) -> None:
        """Run one step of every loop."""
        self.submitter.run_once()
        self.reconciler.run_once()
        self.tracker_sync.run_once()
        self.sweeps.run_once()
        self.autopilots.run_once()
        compare_baselines(self.ctx)

    def restart(self) -> None:
        """Replace the loops that keep state in memory, as a restart does."""
        self.submitter = Submitter(self.ctx)
        self.reconciler = Reconciler(self.ctx, max_gap_s=math.inf)
        self.tracker_sync = TrackerSync(self.ctx)
        self.sweeps = SweepReconciler(self.ctx)
        self.autopilots = AutopilotLoop(self.ctx)

    def execute_sql(self, statement: str) -> None:
        """Change the SQLite database without the service's knowledge."""
        with sqlite3.connect(self.home / "tandem.db") as connection:
            connection.execute(statement)
        connection.close()

    def launch(self, **body: Any) -> dict[str, Any]:
        response = self.http.post("/v1/runs", json=body)
        assert response.status_code == 201, response.text
        return dict(response.json())

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/v1/runs/{run_id}").json())

    def add_dataset(self, name: str = "pets", manifest: DatasetManifest | None = None) -> None:
        root = write_dataset(self.home / "datasets" / name, manifest)
        assert self.http.post("/v1/datasets", json={"root": str(root), "name": name}).is_success

    def add_teacher(
        self,
        name: str = "big",
        classes: tuple[str, ...] = CLASSES,
        detector: Detector | None = None,
    ) -> None:
        checkpoint = write_checkpoint(self.home / "teachers" / f"{name}.pth")
        body = {
            "name": name,
            "checkpoint": str(checkpoint),
            "detector": (detector or make_detector_spec()).model_dump(mode="json"),
            "classes": list(classes),
        }
        assert self.http.post("/v1/teachers", json=body).is_success


@cache
def migrated_sqlite() -> bytes:
    """Create an empty SQLite file with the newest schema; cached for the process."""
    with TemporaryDirectory(prefix="tandem-db-") as folder:
        database = Database(f"sqlite:///{folder}/tandem.db")
        database.migrate()
        database.close()
        return (Path(folder) / "tandem.db").read_bytes()


@contextmanager
def open_stage(home: Path, **settings: Any) -> Iterator[Stage]:
    """Create a service in `home` with the given settings."""
    file = home / "tandem.db"
    if "database_url" not in settings and not file.exists():
        # Each migration takes a while; tests of the migrations themselves start without a schema.
        home.mkdir(parents=True, exist_ok=True)
        file.write_bytes(migrated_sqlite())
    cluster, tracker, clock = SimulatedCluster(), SimulatedTracker(), FixedClock()
    app = create_app(
        Settings(home=home, **settings),
        cluster=cluster,
        tracker=tracker,
        clock=clock,
        with_loops=False,
    )
    transport = AsgiTransport(app)
    with httpx.Client(transport=transport, base_url="http://localhost") as http:
        submitter = Submitter(app.state.ctx)
        reconciler = Reconciler(app.state.ctx, max_gap_s=math.inf)
        sweeps = SweepReconciler(app.state.ctx)
        tracker_sync = TrackerSync(app.state.ctx)
        yield Stage(
            app=app,
            http=http,
            home=home,
            cluster=cluster,
            tracker=tracker,
            clock=clock,
            submitter=submitter,
            reconciler=reconciler,
            tracker_sync=tracker_sync,
            sweeps=sweeps,
            autopilots=AutopilotLoop(app.state.ctx),
            transport=transport,
        )
