"""Runs and sweeps at `/metrics`: shown while they are active, with few statements, any names."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from configs.protocol.names import RunFile
from configs.protocol.records import Delivery, Metrics, PendingRecords, Record
from configs.protocol.sweep_log import SweepEntry, TrialSuggested
from configs.spec.sweep import SweepSpec
from service.domain.runs import Attempt, transition
from service.domain.states import RunState
from service.domain.sweeps import Sweep, SweepState
from service.store.database import Database
from service.usecases.metrics import MetricsCollector
from tests.support.factories import make_run, make_spec
from tests.support.service.runs import make_metrics, make_outcome, make_progress, submit_run
from tests.support.service.simulated_sweep import (
    complete_sweep,
    make_sweep_request,
    start_search,
    train_trial,
)
from tests.support.service.stage import SLOW_ON_POSTGRESQL, Stage

NAME = 'the "quick" one\\n\\\\ größer 猫 {x="1"} '
STATEMENTS_PER_SCRAPE = 11
"""Without those that begin transactions."""


def read_run_series(stage: Stage) -> dict[str, dict[tuple[str, ...], float]]:
    """Read the series of the only run by metric, without its constant labels."""
    return read_samples(stage, "tandem_run_", common=("run", "name", "project"))


def read_sweep_series(stage: Stage) -> dict[str, dict[tuple[str, ...], float]]:
    return read_samples(stage, "tandem_sweep_", common=("sweep", "name", "project"))


def read_samples(
    stage: Stage, prefix: str, *, common: Sequence[str]
) -> dict[str, dict[tuple[str, ...], float]]:
    samples_by_name: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value in samples(stage):
        if name.startswith(prefix):
            more = tuple(text for key, text in labels.items() if key not in common)
            samples_by_name.setdefault(name.removeprefix(prefix), {})[more] = value
    return samples_by_name


def samples(stage: Stage) -> Iterator[tuple[str, Mapping[str, str], float]]:
    response = stage.http.get("/metrics")
    assert response.status_code == 200
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def deliver_metrics(
    stage: Stage,
    run_id: str,
    records: Sequence[Record],
    *,
    first: int = 0,
    pending: PendingRecords | None = None,
) -> None:
    attempt = stage.run(run_id)["attempt"]
    body = Delivery(first=first, records=tuple(records), pending_records=pending or {})
    url = f"/v1/runs/{run_id}/attempts/{attempt}/deliveries"
    assert stage.http.post(url, json=body.model_dump(mode="json")).is_success


class TestOneRun:
    """From its start to its end."""

    @SLOW_ON_POSTGRESQL
    def test_what_its_worker_said_last_is_told(self, any_stage: Stage) -> None:
        stage = any_stage
        run_id = submit_run(stage)
        values = {"train/loss": 2.5, "train/images_per_s": 8.0, "teacher/bbox_mAP": 0.5}
        metrics = Metrics(at=stage.clock.now(), attempt=1, step=1, values=values)
        pending: PendingRecords = {"service": 3, "mlflow": 120}
        deliver_metrics(
            stage,
            run_id,
            [make_progress(stage), metrics, make_metrics(stage, 1, mAP=0.25)],
            pending=pending,
        )
        stage.clock.advance(7)

        assert read_run_series(stage) == {
            "progress_ratio": {(): 0.25},
            "images_per_second": {(): 8.0},
            "seconds_left": {(): 3.0},
            "heartbeat_age_seconds": {(): 7.0},
            "attempts": {(): 1.0},
            "loss": {("loss",): 2.5},
            "map": {("student", "bbox_mAP"): 0.25, ("teacher", "bbox_mAP"): 0.5},
            "pending_records": {("mlflow",): 120.0, ("service",): 0.0},
        }
        assert stage.run(run_id)["pending_records"] == {"service": 0, "mlflow": 120}

    def test_a_run_that_starts_is_there_before_its_worker_speaks(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.launch(spec=make_spec())
        assert read_run_series(stage) == {}
        stage.run_loops()
        stage.clock.advance(4)

        assert read_run_series(stage) == {"attempts": {(): 1.0}, "heartbeat_age_seconds": {(): 4.0}}

    def test_a_run_that_leaves_takes_its_series_along(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        deliver_metrics(stage, run_id, [make_progress(stage), make_metrics(stage, 1, loss=1.0)])
        assert read_run_series(stage)
        deliver_metrics(stage, run_id, [make_outcome(stage, "succeeded")], first=2)
        stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
        stage.run_loops()

        assert read_run_series(stage) == {}

    def test_another_attempt_keeps_what_the_last_one_said(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        deliver_metrics(stage, run_id, [make_progress(stage)], pending={"service": 1, "mlflow": 40})
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
        stage.run_loops()
        assert read_run_series(stage) == {}
        stage.clock.advance(10)
        stage.run_loops()

        series = read_run_series(stage)

        assert (series["attempts"], series["progress_ratio"]) == ({(): 2.0}, {(): 0.25})
        assert series["pending_records"][("mlflow",)] == 40

    def test_the_number_of_a_worker_that_is_heard_no_more_stays(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        deliver_metrics(stage, run_id, [], pending={"service": 0, "mlflow": 12})
        stage.clock.advance(50)
        deliver_metrics(stage, run_id, [])

        assert read_run_series(stage)["pending_records"] == {("service",): 0, ("mlflow",): 12}

    @SLOW_ON_POSTGRESQL
    def test_a_name_may_be_any_text(self, any_stage: Stage) -> None:
        any_stage.add_dataset()
        any_stage.launch(spec=make_spec(), name=NAME, project="other")
        any_stage.run_loops()

        assert read_run_names(any_stage) == {(NAME, "other")}

    def test_a_row_of_old_times_may_have_lines_in_its_name(self, stage: Stage) -> None:
        name = f'two\nlines\r\n# TYPE "{NAME}'
        with stage.ctx.store.transaction() as uow:
            uow.runs.add(make_run(state=RunState.RUNNING, name=name, project="größe"))

        assert read_run_names(stage) == {(name, "größe")}

    def test_once_mlflow_has_everything_nothing_is_said_to_be_lacking(self, stage: Stage) -> None:
        run_id = submit_run(stage)
        records: list[Record] = [make_metrics(stage, 1, loss=1.0), make_outcome(stage, "succeeded")]
        spool = stage.home / "runs" / run_id / RunFile.SPOOL
        spool.write_text("".join(record.model_dump_json() + "\n" for record in records))
        deliver_metrics(stage, run_id, records, pending={"service": 2, "mlflow": 2})
        stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
        stage.run_loops()
        assert stage.run(run_id)["pending_records"] == {"service": 0, "mlflow": 2}

        (spool.parent / "spool.mlflow.position").write_text("2")
        stage.run_loops()

        assert stage.run(run_id)["pending_records"] == {"service": 0, "mlflow": 0}


class TestOneSweep:
    """While it is not over."""

    @SLOW_ON_POSTGRESQL
    def test_its_trials_and_its_best_are_told(self, any_stage: Stage) -> None:
        sweep = start_search(any_stage, name=NAME)
        assert read_sweep_series(any_stage)["trials"][("running",)] == 0
        assert "best" not in read_sweep_series(any_stage)
        train_trial(sweep, 0, 0.3)
        train_trial(sweep, 1, 0.5)
        sweep.suggest(2)

        series = read_sweep_series(any_stage)

        assert series["trials"] == {
            ("running",): 1,
            ("finished",): 2,
            ("stopped",): 0,
            ("failed",): 0,
            ("cancelled",): 0,
        }
        assert series["best"] == {(): 0.5}
        names = {labels["name"] for name, labels, _ in samples(any_stage) if "_sweep_" in name}
        assert names == {NAME}

    def test_what_was_read_before_is_as_right_as_what_is_read_anew(self, stage: Stage) -> None:
        sweep = start_search(stage)
        for number in range(3):
            train_trial(sweep, number, 0.1 * number)
            read_sweep_series(stage)

        series = read_sweep_series(stage)

        assert series["trials"][("finished",)] == len(sweep.trials) == 3
        assert series["best"] == {(): pytest.approx(0.2)}

    def test_a_sweep_that_is_over_is_gone_and_one_that_searches_again_is_whole(
        self, stage: Stage
    ) -> None:
        sweep = start_search(stage)
        train_trial(sweep, 0, 0.4)
        assert read_sweep_series(stage)
        complete_sweep(sweep)
        assert sweep.state == "succeeded"
        assert read_sweep_series(stage) == {}

        extended = stage.http.post(f"/v1/sweeps/{sweep.id}:extend", json={"trials": 2})
        assert extended.is_success, extended.text

        series = read_sweep_series(stage)
        assert series["trials"][("finished",)] == 1
        assert series["best"] == {(): 0.4}


class TestCost:
    """The number of statements of a scrape does not depend on the number of runs."""

    def test_many_runs_and_sweeps_take_as_many_statements_as_few(self, any_stage: Stage) -> None:
        fill(any_stage, runs=2, sweeps=1)
        few = record_scrape_statements(any_stage)
        fill(any_stage, runs=200, sweeps=3)

        many, repeated = record_scrape_statements(any_stage), record_scrape_statements(any_stage)

        assert len(few) == len(many) == len(repeated) == STATEMENTS_PER_SCRAPE
        assert sum(name == "tandem_run_loss" for name, *_ in samples(any_stage)) == 200
        lives = [
            value
            for name, labels, value in samples(any_stage)
            if name == "tandem_sweep_trials" and labels["state"] == "running"
        ]
        assert lives == [50, 50, 50]

    def test_an_entry_of_a_sweep_is_read_once(self, stage: Stage) -> None:
        fill(stage, runs=0, sweeps=1)
        read_sweep_series(stage)
        with stage.ctx.store.transaction() as uow:
            (sweep,) = uow.sweeps.in_states(SweepState.SEARCHING)
            new = uow.sweeps.new_entries({sweep.id: 49})

        assert [entry.kind for entry in new[sweep.id]] == ["suggested"]
        assert read_sweep_series(stage)["trials"][("running",)] == 50

    def test_scrapes_at_the_same_time_count_nothing_twice(self, any_stage: Stage) -> None:
        stage = any_stage
        run_id = submit_run(stage)
        stage.clock.advance(10)
        stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=10)
        stage.run_loops()

        with ThreadPoolExecutor(4) as pool:
            for _ in range(20):
                figures, barrier = MetricsCollector(stage.ctx), Barrier(4)
                futures = [pool.submit(read_cpu_seconds, figures, barrier) for _ in range(4)]
                assert [future.result() for future in futures] == [10.0] * 4


def read_cpu_seconds(figures: MetricsCollector, barrier: Barrier) -> float:
    barrier.wait(timeout=20)
    (series,) = [metric for metric in figures.series() if metric.name == "cpu_seconds"]
    return sum(value for _, value in series.values)


def read_run_names(stage: Stage) -> set[tuple[str, str]]:
    return {
        (labels["name"], labels["project"])
        for metric, labels, _ in samples(stage)
        if metric.startswith("tandem_run_")
    }


def record_scrape_statements(stage: Stage) -> list[str]:
    stage.app.state.health._checked_at_s = 0.0
    with statements(stage) as executed:
        assert stage.http.get("/metrics").status_code == 200
    return executed


@contextmanager
def statements(stage: Stage) -> Iterator[list[str]]:
    """Record the statements of the database, except those that begin a transaction."""
    store = stage.ctx.store
    assert isinstance(store, Database)
    executed: list[str] = []

    def make_note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            executed.append(statement)

    event.listen(store._snapshot_engine, "before_cursor_execute", make_note)
    yield executed
    event.remove(store._snapshot_engine, "before_cursor_execute", make_note)


def fill(stage: Stage, *, runs: int, sweeps: int) -> None:
    """Insert running runs, and active sweeps with 50 trials."""
    now = stage.clock.now()
    with stage.ctx.store.transaction() as uow:
        active_runs, lists = uow.metrics.active_runs(), uow.sweeps.in_states(SweepState.SEARCHING)
        for number in range(len(active_runs), runs):
            queued = make_run(
                id=f"r{number:012d}",
                latest={"train/loss": 1.0},
                progress=make_progress(stage),
                pending_records={"mlflow": number},
            )
            running = transition(
                transition(queued, RunState.STARTING, at=now), RunState.RUNNING, at=now
            )
            uow.runs.add(running)
            job = f"p{number // 2:012d}"
            uow.attempts.add(Attempt(queued.id, 1, f"{queued.id}-a1", now, pack_job=job))
        request = make_sweep_request()
        spec = SweepSpec.model_validate({"base": request["spec"], "space": request["space"]})
        for number in range(len(lists), sweeps):
            sweep_id = f"s{number:012d}"
            uow.sweeps.add(
                Sweep(
                    id=sweep_id,
                    name=f"sweep {number}",
                    preset=None,
                    spec=spec,
                    state=SweepState.SEARCHING,
                    created_at=now,
                    updated_at=now,
                    created_by="user",
                )
            )
            entries: list[SweepEntry] = [
                TrialSuggested(number=trial, values={"distillation.cls_weight": 1.0})
                for trial in range(50)
            ]
            uow.sweeps.append(sweep_id, entries, first=0)
