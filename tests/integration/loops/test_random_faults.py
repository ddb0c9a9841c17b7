"""After any sequence of requests and faults, runs end in the expected state with all metrics.

A hypothesis state machine drives the service with a simulated cluster, workers and tracker through
random launches, actions and faults. Invariants are checked after every step; at the end the faults
stop, time passes, and every run must have ended.
"""

import itertools
import os
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.domain.errors.systems import Unreachable
from service.domain.ports import Job, JobRequest, Node
from service.domain.runs import Event
from service.domain.states import ACTIVE_STATES, RunState, can_transition
from service.loops.reconcile import Reconciler
from service.store.database import Database
from tests.support.factories import make_spec
from tests.support.service.run_counts import count_rows
from tests.support.service.simulated_worker import STEPS, SimulatedWorker, compute_loss
from tests.support.service.stage import Stage, open_stage

EXAMPLES = int(os.environ.get("TANDEM_CHAOS_EXAMPLES", "6"))
MAX_ROUNDS = 400
FATAL_EXIT = 10


class AnyFault(RuleBasedStateMachine):
    """Launches, actions and faults in any order."""

    stage: Stage

    @initialize()
    def open(self) -> None:
        self.exit_stack = ExitStack()
        home = Path(self.exit_stack.enter_context(tempfile.TemporaryDirectory()))
        # Consecutive failures are not tested here: no run should exceed their limit.
        self.stage = self.exit_stack.enter_context(open_stage(home, max_attempts=1000))
        self.stage.cluster.cluster_nodes = (Node(3.0, 0.0, 3.0, 0.0, "n1"),)
        self.stage.add_dataset()
        self.workers: dict[str, SimulatedWorker] = {}
        self.cancelled: set[str] = set()
        self.failed: set[str] = set()
        self.runs: list[str] = []

    def teardown(self) -> None:
        if hasattr(self, "exit_stack"):
            try:
                self.run_without_faults()
                self.check_ends()
            finally:
                self.exit_stack.close()

    # Requests of users.

    @precondition(lambda self: len(self.runs) < 5)
    @rule(priority=st.integers(-1, 1), is_repeated=st.booleans())
    def launch(self, priority: int, is_repeated: bool) -> None:
        body = {"spec": make_spec(), "priority": priority}
        headers = {"Idempotency-Key": f"k{len(self.runs)}"}
        for _ in range(2 if is_repeated else 1):
            response = self.stage.http.post("/v1/runs", json=body, headers=headers)
        assert response.is_success, response.text
        self.runs.append(response.json()["id"])

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), action=st.sampled_from(["cancel", "pause", "resume", "retry"]))
    def request_action(self, data: st.DataObject, action: str) -> None:
        run_id = data.draw(st.sampled_from(self.runs))
        response = self.stage.http.post(f"/v1/runs/{run_id}:{action}")
        assert response.status_code in (200, 409), response.text
        if response.is_success and action == "cancel":
            self.cancelled.add(run_id)
        if response.is_success and action == "retry":
            self.cancelled.discard(run_id)
            self.failed.discard(run_id)

    # Progress without faults.

    @rule(seconds=st.sampled_from([0.0, 1.0, 7.0, 20.0]))
    def advance_and_run_loops(self, seconds: float) -> None:
        self.stage.clock.advance(seconds)
        self.run_loops()

    @precondition(lambda self: self.list_running())
    @rule(data=st.data(), times=st.integers(1, 4))
    def train(self, data: st.DataObject, times: int) -> None:
        worker = data.draw(st.sampled_from(self.list_running()))
        for _ in range(times):
            if not worker.has_exited:
                worker.train()

    @precondition(lambda self: self.list_running())
    @rule(data=st.data(), max_records=st.integers(0, 5), is_repeated=st.booleans())
    def deliver(self, data: st.DataObject, max_records: int, is_repeated: bool) -> None:
        data.draw(st.sampled_from(self.list_running())).deliver(
            max_records=max_records, is_repeated=is_repeated
        )

    # Faults.

    @precondition(lambda self: self.list_running())
    @rule(data=st.data(), exit_code=st.sampled_from([-9, 137, 143, 20, 21, None]))
    def crash_worker(self, data: st.DataObject, exit_code: int | None) -> None:
        data.draw(st.sampled_from(self.list_running())).crash(
            -9 if exit_code is None else exit_code
        )

    @precondition(lambda self: self.list_running())
    @rule(data=st.data())
    def fail_worker(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.list_running()))
        worker.crash(FATAL_EXIT)
        self.failed.add(worker.run_id)

    @precondition(lambda self: self.list_running())
    @rule(data=st.data())
    def freeze_worker(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.list_running())).is_frozen = True

    @precondition(lambda self: self.list_running())
    @rule(data=st.data(), hours=st.sampled_from([-5, 5]))
    def skew_clock(self, data: st.DataObject, hours: int) -> None:
        data.draw(st.sampled_from(self.list_running())).skew_s = 3600.0 * hours

    @rule()
    def restart_service(self) -> None:
        self.stage.reconciler = Reconciler(self.stage.ctx, max_gap_s=1e9)

    @rule()
    def forget_jobs(self) -> None:
        self.stage.cluster.forget_jobs()

    @rule(is_up=st.booleans())
    def set_ray_reachable(self, is_up: bool) -> None:
        self.stage.cluster.is_reachable = is_up

    @rule(is_up=st.booleans())
    def set_mlflow_reachable(self, is_up: bool) -> None:
        self.stage.tracker.is_reachable = is_up

    # Invariants.

    @invariant()
    def check_transitions(self) -> None:
        for run_id in getattr(self, "runs", ()):
            transitions = [
                event for event in self.list_events(run_id) if event.to_state is not None
            ]
            for before, after in itertools.pairwise(transitions):
                assert before.to_state is after.from_state
                assert after.from_state is not None
                assert can_transition(after.from_state, after.to_state or RunState.QUEUED)

    @invariant()
    def check_totals(self) -> None:
        if not hasattr(self, "stage"):
            return
        store = self.stage.ctx.store
        assert isinstance(store, Database)
        with store.transaction() as uow:
            assert uow.metrics.count_runs() == count_rows(uow)

    @invariant()
    def check_metric_steps(self) -> None:
        for run_id in getattr(self, "runs", ()):
            steps = self.list_steps(run_id)
            assert steps == list(range(1, len(steps) + 1))

    # Helpers.

    def run_loops(self) -> None:
        for step in (
            self.stage.submitter.run_once,
            self.stage.reconciler.run_once,
            self.stage.tracker_sync.run_once,
        ):
            with suppress(Unreachable):
                step()
        self.start_workers()

    def start_workers(self) -> None:
        """Start each pending job once, as Ray does."""
        cluster = self.stage.cluster
        for job, request in list(cluster.job_requests.items()):
            existing = cluster.jobs_by_id.get(job)
            if existing is None or existing.is_over or job in self.workers:
                continue
            if request.command[1] == "train":
                self.start_attempt(job, request)
            else:
                cluster.set_job_state(job, "succeeded", exit_code=0)
            if request.command[1] == "flush":
                self.mark_shipped(request.metadata["run_id"])
        running = sum(cluster.jobs_by_id.get(job) == Job("running") for job in self.workers)
        cluster.cluster_nodes = (Node(3.0, 0.0, max(0.0, 3.0 - running), 0.0, "n1"),)

    def start_attempt(self, job: str, request: JobRequest) -> None:
        """Start an attempt, which terminates earlier attempts of its run on the node."""
        run_id, attempt = request.metadata["run_id"], int(request.metadata["attempt"])
        for worker in self.workers.values():
            worker.has_stopped |= worker.run_id == run_id
        self.workers[job] = SimulatedWorker(self.stage, run_id, attempt)
        self.stage.cluster.node_ids_by_job[job] = "n1"
        self.stage.cluster.set_job_state(job, "running")

    def mark_shipped(self, run_id: str) -> None:
        folder = self.stage.home / "runs" / run_id
        count = len((folder / "spool.jsonl").read_bytes().splitlines())
        (folder / "spool.mlflow.position").write_text(str(count))

    def list_running(self) -> list[SimulatedWorker]:
        return [
            worker
            for worker in self.workers.values()
            if not worker.has_exited and not worker.is_frozen
        ]

    def run_without_faults(self) -> None:
        """Run the loops and workers without faults until every run has ended."""
        self.stage.cluster.is_reachable = self.stage.tracker.is_reachable = True
        for _ in range(MAX_ROUNDS):
            for run_id in self.runs:
                if self.stage.run(run_id)["desired"] == "paused":
                    self.stage.http.post(f"/v1/runs/{run_id}:resume")
            self.stage.clock.advance(20)
            self.run_loops()
            for worker in self.list_running():
                worker.train()
                if not worker.has_exited:
                    worker.deliver()
            if all(RunState(self.stage.run(run)["state"]) not in NOT_OVER for run in self.runs):
                return
        states = {run: self.stage.run(run) for run in self.runs}
        raise AssertionError(f"not over after {MAX_ROUNDS} rounds: {states}")

    def check_ends(self) -> None:
        for run_id in self.runs:
            run = self.stage.run(run_id)
            expected = {"succeeded"}
            if run_id in self.cancelled:
                expected.add("cancelled")
            if run_id in self.failed:
                expected.add("failed")
            assert run["state"] in expected, (run, self.list_events(run_id))
            if run["state"] == "succeeded":
                assert self.list_steps(run_id) == list(range(1, STEPS + 1))
            attempts = self.stage.http.get(f"/v1/runs/{run_id}/attempts").json()["items"]
            assert [attempt["number"] for attempt in attempts] == list(range(1, len(attempts) + 1))
            assert all(attempt["ended_at"] for attempt in attempts)

    def list_events(self, run_id: str) -> list[Event]:
        with self.stage.ctx.store.transaction() as uow:
            return uow.events.of_run(run_id)

    def list_steps(self, run_id: str) -> list[int]:
        with self.stage.ctx.store.transaction() as uow:
            points = uow.metric_points.of_run(run_id, key="train/loss")
        assert all(point.value == compute_loss(point.step) for point in points)
        return [point.step for point in points]


NOT_OVER = {RunState.QUEUED, RunState.PAUSED, *ACTIVE_STATES}

AnyFault.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    print_blob=True,
)


TestAnyFault = pytest.mark.timeout(3600)(AnyFault.TestCase)
