"""Measures turns of the loops and pages, in this process."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from service.domain.ports import Node
from service.loops.comparisons import compare_baselines
from service.loops.submit import Submitter
from tests.bench.control.measurement import (
    Measurement,
    RowCounter,
    forget_garbage,
    measure_ms,
    time_once_ms,
)
from tests.support.service.history import (
    PROJECT,
    RARE_PROJECT,
    RARE_TAG,
    History,
    list_running_ids,
    make_run_id,
)
from tests.support.service.replicas import open_replica
from tests.support.service.stage import Stage, open_stage

_REPEATS = 9
_LEASE_TURNS = 10

FILTERS = {
    "all": "",
    "state=failed": "state=failed",
    "state=running": "state=running",
    "project": f"project={PROJECT}",
    "project of ten runs": f"project={RARE_PROJECT}",
    "project, state": f"project={PROJECT}&state=failed",
    "preset": "preset=x1",
    "tag": "tag=team%3Dt1",
    "tag of ten runs": f"tag={RARE_TAG[0]}%3D{RARE_TAG[1]}",
    "best mAP": "sort=best_map",
    "id": f"id_prefix={make_run_id(11)}",
}


def measure_history(home: Path, url: str) -> Iterator[Measurement]:
    """Loops at rest, the metrics, readiness, and lists, beside a history of any length."""
    with open_stage(home, database_url=url, log_level="error") as stage:
        stage.cluster.cluster_nodes = ()
        yield Measurement("/metrics, first", time_once_ms(partial(_get, stage, "/metrics")), "ms")
        stage.run_loops()
        steps: dict[str, Callable[[], object]] = {
            "settle turn": stage.tracker_sync.run_once,
            "compare turn": partial(compare_baselines, stage.ctx),
            "sweeps turn": stage.sweeps.run_once,
            "/metrics": partial(_get, stage, "/metrics"),
            "/readyz": partial(_get, stage, "/readyz"),
            "/v1/sweeps": partial(_get, stage, "/v1/sweeps?limit=1"),
            "/v1/events of a project": partial(_get, stage, f"/v1/events?project={RARE_PROJECT}"),
        }
        for name, query in FILTERS.items():
            steps[f"runs: {name}"] = partial(_get, stage, f"/v1/runs?limit=1&{query}")
        for name, step in steps.items():
            yield Measurement(name, measure_ms(step, repeats=_REPEATS), "ms")


def measure_queue(home: Path, url: str, history: History) -> Iterator[Measurement]:
    """Turns of the queue, and the rows that reconciling writes, with many queued and running."""
    with open_stage(home, database_url=url, log_level="error") as stage:
        stage.add_dataset()
        stage.add_teacher()
        _start_jobs(stage, history)
        turn = Submitter(stage.ctx).run_once
        forget_garbage()  # as `serve` does
        yield Measurement("queue turn, first", time_once_ms(turn), "ms")
        turns = 1
        while _count_without_reason(stage):
            turn()
            turns += 1
        yield Measurement("queue turns until all have their reason", float(turns), "")
        yield Measurement("queue turn, at rest", measure_ms(turn, repeats=3), "ms")
        stage.cluster.cluster_nodes = (Node(4.0, 0.0, 4.0, 0.0),)
        yield Measurement("queue turn, 4 runs start", time_once_ms(turn), "ms")
        stage.cluster.cluster_nodes = (Node(4.0, 0.0, 0.0, 0.0),)
        yield Measurement("queue turn after them", time_once_ms(turn), "ms")
        yield from _measure_leases(stage)


def _count_without_reason(stage: Stage) -> int:
    with stage.ctx.store.snapshot() as uow:
        return sum(state.waiting_for is None for state in uow.runs.queue_states())


def _measure_leases(stage: Stage) -> Iterator[Measurement]:
    """Two services reconcile the same runs in turns, a second apart."""
    with open_replica(stage, "other") as replica:
        for _ in range(2):
            _reconcile(stage, replica.reconciler.run_once, replica.clock.advance)
        with RowCounter() as written:
            for _ in range(_LEASE_TURNS):
                _reconcile(stage, replica.reconciler.run_once, replica.clock.advance)
    turns = 2 * _LEASE_TURNS
    yield Measurement("reconcile: rows of runs", written.by_table.get("runs", 0) / turns, "a turn")
    events = written.by_table.get("events", 0) / turns
    yield Measurement("reconcile: events", events, "a turn")
    turn = measure_ms(stage.reconciler.run_once, repeats=3)
    yield Measurement("reconcile turn", turn, "ms")


def _reconcile(
    stage: Stage, other: Callable[[], None], advance_other: Callable[[float], None]
) -> None:
    stage.reconciler.run_once()
    other()
    stage.clock.advance(1)
    advance_other(1)


def _start_jobs(stage: Stage, history: History) -> None:
    """Tell the cluster of the jobs of the running runs, which use all of it."""
    stage.cluster.cluster_nodes = (Node(4.0, 0.0, 0.0, 0.0),)
    for run_id in list_running_ids(history):
        stage.cluster.set_job_state(f"{run_id}-a1", "running")


def _get(stage: Stage, path: str) -> None:
    stage.http.get(path).raise_for_status()
