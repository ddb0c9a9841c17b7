"""A turn over thousands of queued and running runs: its statements, its CPU time, its locks."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from configs.catalog import parse_spec
from configs.spec.jobs import JobSpec
from service.domain.ports import Job, Node
from service.domain.runs import Event, Run
from service.domain.scheduling.queue import WaitDecision
from service.domain.states import RunState
from service.domain.vocabulary import EventKind
from service.store.database import Database
from service.usecases.attempts import waiting
from service.usecases.attempts.waiting import record_waits
from tests.support.factories import make_bckd_spec, make_run
from tests.support.service.many_runs import Statements, add_runs, record_statements
from tests.support.service.replicas import open_replica
from tests.support.service.stage import ON_BOTH_DATABASES, Stage

GPUS_PER_NODE = 8
NUM_PROJECTS = 4
BATCH_SIZE = 500


def make_gpu_spec(seed: int) -> JobSpec:
    return parse_spec(make_bckd_spec(resources={"num_gpus": 1, "num_cpus": 4}, seed=seed))


def fill_cluster(stage: Stage, *, queued: int, running: int, first: int = 0) -> None:
    """Add runs of one GPU on full nodes with free cores, and runs that were queued for long.

    Their numbers begin at `first`.
    """
    now = stage.clock.now() - timedelta(hours=1)
    numbers = range(first, first + running)
    node_ids = [f"n{number // GPUS_PER_NODE}" for number in numbers]
    stage.cluster.cluster_nodes = (
        *(stage.cluster.cluster_nodes if first else ()),
        *(Node(64.0, 8.0, 20.0, 0.0, node_id) for node_id in dict.fromkeys(node_ids)),
    )
    active = [
        make_run(
            id=f"a{number:07}",
            spec=make_gpu_spec(number % 10),
            state=RunState.RUNNING,
            attempt=1,
            created_at=now,
            updated_at=now,
            last_seen_at=now,
            project=f"p{number % NUM_PROJECTS}",
        )
        for number in numbers
    ]
    queued_runs = [
        make_run(
            id=f"q{number:07}",
            spec=make_gpu_spec(number % 50),
            created_at=now + timedelta(seconds=number % 97),
            updated_at=now,
            project=f"p{number % NUM_PROJECTS}",
            priority=-(number % 3),
        )
        for number in range(first, first + queued)
    ]
    add_runs(get_database(stage), [*active, *queued_runs], node_ids=node_ids)
    stage.cluster.jobs_by_id |= {run.submission_id: Job("running") for run in active}


def get_database(stage: Stage) -> Database:
    store = stage.ctx.store
    assert isinstance(store, Database)
    return store


def list_queued(stage: Stage) -> list[Run]:
    with stage.ctx.store.snapshot() as uow:
        return uow.runs.in_states(RunState.QUEUED)


def measure(stage: Stage, step: Callable[[], None]) -> tuple[Statements, float]:
    """The statements of a step, and its CPU seconds."""
    start_s = time.thread_time()
    with record_statements(get_database(stage)) as statements:
        step()
    return statements, time.thread_time() - start_s


@ON_BOTH_DATABASES
def test_a_turn_at_rest_writes_nothing_and_asks_ray_once(stage: Stage) -> None:
    fill_cluster(stage, queued=60, running=24)
    stage.submitter.run_once()
    stage.reconciler.run_once()
    stage.clock.advance(1)

    submit, _ = measure(stage, stage.submitter.run_once)
    reconcile, _ = measure(stage, stage.reconciler.run_once)

    assert (submit.writes, reconcile.writes) == ([], [])
    assert len(submit.reads) <= 8
    assert len(reconcile.reads) <= 2
    assert stage.cluster.num_listings == 2
    assert stage.cluster.requested_jobs == []


def test_a_start_changes_no_row_of_those_that_go_on_waiting(stage: Stage) -> None:
    fill_cluster(stage, queued=20, running=16)
    stage.add_dataset()
    stage.add_teacher()
    stage.submitter.run_once()
    first, *full_nodes = stage.cluster.cluster_nodes
    stage.cluster.cluster_nodes = (Node(64.0, 8.0, 24.0, 1.0, first.id), *full_nodes)

    statements, _ = measure(stage, stage.submitter.run_once)

    updates = [text for text in statements.writes if text.startswith("UPDATE runs")]
    assert len(updates) == 1
    assert len(stage.cluster.job_requests) == 1


@ON_BOTH_DATABASES
def test_events_of_runs_with_one_reason_are_one_statement_without_rows(stage: Stage) -> None:
    runs = [make_run(id=f"q{number:07}", project=f"p{number % 2}") for number in range(40)]
    add_runs(get_database(stage), runs)
    waits = [WaitDecision(run, 1, f"reason {number % 2}") for number, run in enumerate(runs)]

    statements, _ = measure(stage, lambda: record_waits(waits, stored={}, ctx=stage.ctx))

    inserts = [
        rows
        for text, rows in zip(statements.writes, statements.rows_by_write, strict=True)
        if text.startswith("INSERT INTO events")
    ]
    assert inserts == [1, 1]
    with stage.ctx.store.snapshot() as uow:
        events = [uow.events.of_run(run.id) for run in runs]
        projects = uow.events.new(0, skipped=(), limit=100)
    assert [event.details for (event,) in events] == [wait.why for wait in waits]
    assert {(event.actor, event.kind, event.at) for (event,) in events} == {
        ("queue", "waiting", stage.clock.now())
    }
    assert len(projects) == len(runs)


@ON_BOTH_DATABASES
def test_of_many_runs_those_in_front_get_their_reason_first_and_each_gets_it_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_MAX_NEW_REASONS", 15)
    fill_cluster(stage, queued=40, running=8)

    explained = []
    for _ in range(4):
        stage.submitter.run_once()
        explained.append([run for run in list_queued(stage) if run.queue.waiting_for])

    assert [len(runs) for runs in explained] == [15, 30, 40, 40]
    priorities = sorted((run.queue.priority for run in list_queued(stage)), reverse=True)
    assert sorted((run.queue.priority for run in explained[0]), reverse=True) == priorities[:15]
    with stage.ctx.store.snapshot() as uow:
        assert [len(uow.events.of_run(run.id)) for run in list_queued(stage)] == [1] * 40


@ON_BOTH_DATABASES
def test_a_transaction_reads_the_events_that_it_has_added(stage: Stage) -> None:
    run = make_run(id="q0000001")
    add_runs(get_database(stage), [run])
    with record_statements(get_database(stage)) as statements, stage.ctx.store.transaction() as uow:
        for number in range(3):
            uow.events.add(Event(run.id, stage.clock.now(), "a", EventKind.NOTE, f"{number}"))
        assert [event.details for event in uow.events.of_run(run.id)] == ["0", "1", "2"]
        uow.events.add(Event(run.id, stage.clock.now(), "a", EventKind.NOTE, "3"))

    assert len(statements.writes) == 2
    with stage.ctx.store.snapshot() as uow:
        assert len(uow.events.of_run(run.id)) == 4


@pytest.mark.slow
@ON_BOTH_DATABASES
def test_a_turn_over_ten_thousand_queued_runs_costs_ten_times_one_over_a_thousand(
    stage: Stage,
) -> None:
    fill_cluster(stage, queued=1_000, running=100)
    small = measure_turns(stage)
    fill_cluster(stage, queued=9_000, running=900, first=1_000)

    large = measure_turns(stage)

    costs = dict(zip(("first", "idle", "change"), zip(small, large, strict=True), strict=True))
    # Linear costs are 10 times as high, and quadratic ones 100 times.
    assert all(many_s < 32 * few_s for few_s, many_s in costs.values()), costs


def measure_turns(stage: Stage) -> tuple[float, float, float]:
    """CPU seconds of a turn that reads new runs, of one at rest, and of one after which all runs
    wait for something else."""
    first, first_s = measure(stage, stage.submitter.run_once)
    stage.clock.advance(1)
    idle, idle_s = measure(stage, stage.submitter.run_once)
    limit_projects(stage, max_runs=0)
    change, change_s = measure(stage, stage.submitter.run_once)
    limit_projects(stage)
    stage.submitter.run_once()

    assert idle.writes == []
    assert len(idle.reads) <= 8
    assert 0 < max(first.rows_by_write) <= BATCH_SIZE
    assert 0 < max(change.rows_by_write) <= BATCH_SIZE
    return first_s, idle_s, change_s


def limit_projects(stage: Stage, **limits: int) -> None:
    for number in range(NUM_PROJECTS):
        assert stage.http.put(f"/v1/projects/p{number}", json=limits).is_success


class TestTwoServices:
    """They write at the same time."""

    @pytest.fixture
    def stage(self, any_stage: Stage) -> Stage:
        return any_stage

    def test_reasons_written_in_opposite_orders_lock_nobody_out(self, stage: Stage) -> None:
        runs = [make_run(id=f"q{number:07}") for number in range(300)]
        add_runs(get_database(stage), runs)
        failures: list[Exception] = []
        barrier = threading.Barrier(2)

        def write(name: str, order: list[Run]) -> None:
            with open_replica(stage, name) as replica:
                barrier.wait(timeout=30)
                for number in range(6):
                    waits = [WaitDecision(run, 1, f"{name} {number}") for run in order]
                    try:
                        record_waits(waits, stored={}, ctx=replica.ctx)
                    except Exception as error:
                        failures.append(error)

        threads = [
            threading.Thread(target=write, args=arguments)
            for arguments in (("a", runs), ("b", runs[::-1]))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failures == []
