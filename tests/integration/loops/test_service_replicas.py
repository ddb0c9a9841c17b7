"""Several services with one database: each run has one service, and ends once."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest

from service.domain.errors.conflicts import LeaseLost
from service.domain.ports import Job, JobRequest, Node
from service.domain.runs import Event
from service.usecases.attempts.finish import end_attempt
from service.usecases.leadership import Leadership
from tests.support.factories import make_spec
from tests.support.service.replicas import Replica, make_slow_submit, open_replica
from tests.support.service.stage import Stage


@pytest.fixture
def stage(any_stage: Stage) -> Stage:
    """The service on both kinds of database."""
    return any_stage


@pytest.fixture
def replica_a(stage: Stage) -> Iterator[Replica]:
    with open_replica(stage, "a") as service:
        yield service


@pytest.fixture
def replica_b(stage: Stage) -> Iterator[Replica]:
    with open_replica(stage, "b") as service:
        yield service


def test_a_run_has_one_service_and_another_one_takes_over_when_it_is_silent(
    stage: Stage, replica_a: Replica, replica_b: Replica
) -> None:
    run_id = submit_run_by(stage, replica_a)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
    replica_b.run_loops()
    assert stage.run(run_id)["state"] == "starting"

    replica_b.clock.advance(16)
    replica_b.run_loops()

    assert stage.run(run_id)["state"] in ("queued", "starting")
    assert [
        event.details for event in list_events(stage, run_id) if event.kind == "lease_taken"
    ] == ["Lease taken by b from a."]


def test_one_that_lost_its_lease_cannot_end_a_run(
    stage: Stage, replica_a: Replica, replica_b: Replica
) -> None:
    run_id = submit_run_by(stage, replica_a)
    with replica_a.ctx.store.transaction() as uow:
        run = uow.runs.get(run_id)
    replica_b.clock.advance(16)
    replica_b.run_loops()

    with pytest.raises(LeaseLost):
        end_attempt(run, Job("failed", exit_code=-9), ctx=replica_a.ctx)

    assert stage.run(run_id)["state"] == "starting"
    assert stage.run(run_id)["attempt"] == 1


@pytest.mark.parametrize("ahead_s", [-600.0, 600.0])
def test_a_clock_that_is_wrong_loses_no_run(
    stage: Stage, replica_a: Replica, ahead_s: float
) -> None:
    run_id = submit_run_by(stage, replica_a)
    stage.cluster.set_job_state(f"{run_id}-a1", "running")
    with open_replica(stage, "wrong", clock_ahead_s=ahead_s) as skewed:
        for _ in range(20):
            for service in (replica_a, skewed):
                with suppress(LeaseLost):
                    service.run_loops()
                service.clock.advance(5)
            stage.clock.advance(5)
            stage.http.post(
                f"/v1/runs/{run_id}/attempts/1/deliveries", json={"first": 0, "records": []}
            )

    assert stage.run(run_id)["state"] == "running"
    assert stage.cluster.stopped == []


def test_all_at_once_they_start_every_run_once(stage: Stage) -> None:
    stage.cluster.cluster_nodes = (Node(100.0, 0.0, 100.0, 0.0, "n1"),)
    stage.add_dataset()
    runs = [stage.launch(spec=make_spec())["id"] for _ in range(12)]
    failures: list[Exception] = []
    barrier = threading.Barrier(4)

    def work(name: str) -> None:
        with open_replica(stage, name) as service:
            barrier.wait(timeout=10)
            for _ in range(5):
                try:
                    service.run_loops()
                except Exception as error:
                    failures.append(error)
                service.clock.advance(7)

    threads = [threading.Thread(target=work, args=(f"replica-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert [stage.run(run)["attempt"] for run in runs] == [1] * 12
    assert set(stage.cluster.job_requests) == {f"{run}-a1" for run in runs}
    starts = Counter(
        event.run_id
        for run in runs
        for event in list_events(stage, run)
        if event.to_state == "starting"
    )
    assert set(starts.values()) == {1}


class TestLongTurns:
    """Turns that take longer than a lease, because Ray answers slowly."""

    def test_runs_stay_with_the_service_that_works_on_them(
        self,
        stage: Stage,
        replica_a: Replica,
        replica_b: Replica,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        runs = start_runs(stage, replica_a, number=20)
        replica_a.reconciler.run_once()
        stage.cluster.forget_jobs()
        submitted: list[str] = []

        def run_other_service(request: JobRequest) -> None:
            submitted.append(request.submission_id)
            replica_b.reconciler.run_once()

        submit = make_slow_submit((replica_a, replica_b), seconds=2, then=run_other_service)
        monkeypatch.setattr(stage.cluster, "submit", submit)
        replica_a.reconciler.run_once()

        assert sorted(submitted) == sorted(f"{run}-a1" for run in runs)
        assert list_kinds(stage, runs)["lease_taken"] == 0

    def test_the_leader_stays_the_leader(
        self,
        stage: Stage,
        replica_a: Replica,
        replica_b: Replica,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        others_were_leader: list[bool] = []

        def try_to_lead(_request: JobRequest) -> None:
            others_were_leader.append(Leadership("queue", replica_b.ctx).acquire())

        submit = make_slow_submit((replica_a, replica_b), seconds=2, then=try_to_lead)
        monkeypatch.setattr(stage.cluster, "submit", submit)
        start_runs(stage, replica_a, number=20)

        assert others_were_leader == [False] * 20

    def test_a_leader_that_was_replaced_starts_nothing_more(
        self,
        stage: Stage,
        replica_a: Replica,
        replica_b: Replica,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def take_the_lead(_request: JobRequest) -> None:
            assert Leadership("queue", replica_b.ctx).acquire()

        submit = make_slow_submit((replica_a, replica_b), seconds=20, then=take_the_lead)
        monkeypatch.setattr(stage.cluster, "submit", submit)
        runs = start_runs(stage, replica_a, number=3)

        states = sorted(stage.run(run)["state"] for run in runs)
        assert states == ["queued", "queued", "starting"]


def start_runs(stage: Stage, replica: Replica, *, number: int) -> list[str]:
    stage.cluster.cluster_nodes = (Node(100.0, 0.0, 100.0, 0.0, "n1"),)
    stage.add_dataset()
    runs: list[str] = [stage.launch(spec=make_spec())["id"] for _ in range(number)]
    replica.submitter.run_once()
    return runs


def list_kinds(stage: Stage, runs: Sequence[str]) -> Counter[str]:
    return Counter(event.kind for run in runs for event in list_events(stage, run))


def submit_run_by(stage: Stage, service: Replica) -> str:
    stage.add_dataset()
    run_id: str = stage.launch(spec=make_spec())["id"]
    service.run_loops()
    return run_id


def list_events(stage: Stage, run_id: str) -> list[Event]:
    with stage.ctx.store.transaction() as uow:
        return uow.events.of_run(run_id)
