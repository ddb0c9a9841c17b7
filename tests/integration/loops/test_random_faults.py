"""Whatever happens to a run, in any order: it ends as it should, with its metrics whole.

A state machine drives the service, over a cluster, workers and a tracker that are simulated,
through launches, wishes and faults that nobody chose. What must always hold is checked after every
step; at the end the faults stop, time passes, and every run must have come to its end.
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

from service.domain.errors import Unreachable
from service.domain.ports import Job, JobRequest, Node
from service.domain.runs import Event
from service.domain.states import ACTIVE_STATES, RunState, can_transition
from service.loops.reconcile import Reconciler
from service.loops.submit import submit_queued
from service.loops.tracker_sync import sync_finished_runs
from tests.support.factories import a_spec
from tests.support.service.simulated_worker import STEPS, SimulatedWorker, loss_at
from tests.support.service.stage import Stage, open_stage

EXAMPLES = int(os.environ.get("TANDEM_CHAOS_EXAMPLES", "12"))
CALM_TURNS = 400
FATAL_EXIT = 10


class AnyFault(RuleBasedStateMachine):
    """Runs, wishes and faults in any order."""

    stage: Stage

    @initialize()
    def open(self) -> None:
        self.opened = ExitStack()
        home = Path(self.opened.enter_context(tempfile.TemporaryDirectory()))
        # Bad ends in a row are not what is tested here: nobody should run out of them by chance.
        self.stage = self.opened.enter_context(open_stage(home, max_attempts=1000))
        self.stage.cluster.cluster_nodes = (Node(3.0, 0.0, 3.0, 0.0, "n1"),)
        self.stage.add_dataset()
        self.workers: dict[str, SimulatedWorker] = {}
        self.cancelled: set[str] = set()
        self.doomed: set[str] = set()
        self.runs: list[str] = []

    def teardown(self) -> None:
        if hasattr(self, "opened"):
            try:
                self.calm_down()
                self.all_is_well()
            finally:
                self.opened.close()

    # What people do.

    @precondition(lambda self: len(self.runs) < 5)
    @rule(priority=st.integers(-1, 1), twice=st.booleans())
    def launch(self, priority: int, twice: bool) -> None:
        body = {"spec": a_spec(), "priority": priority}
        headers = {"Idempotency-Key": f"k{len(self.runs)}"}
        for _ in range(2 if twice else 1):
            response = self.stage.http.post("/v1/runs", json=body, headers=headers)
        assert response.is_success, response.text
        self.runs.append(response.json()["id"])

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), wish=st.sampled_from(["cancel", "pause", "resume", "retry"]))
    def wish(self, data: st.DataObject, wish: str) -> None:
        run_id = data.draw(st.sampled_from(self.runs))
        response = self.stage.http.post(f"/v1/runs/{run_id}:{wish}")
        assert response.status_code in (200, 409), response.text
        if response.is_success and wish == "cancel":
            self.cancelled.add(run_id)
        if response.is_success and wish == "retry":
            self.cancelled.discard(run_id)
            self.doomed.discard(run_id)

    # What goes on by itself.

    @rule(seconds=st.sampled_from([0.0, 1.0, 7.0, 20.0]))
    def turn(self, seconds: float) -> None:
        self.stage.clock.advance(seconds)
        self.take_a_turn()

    @precondition(lambda self: self.living())
    @rule(data=st.data(), times=st.integers(1, 4))
    def train(self, data: st.DataObject, times: int) -> None:
        worker = data.draw(st.sampled_from(self.living()))
        for _ in range(times):
            if not worker.is_gone:
                worker.train()

    @precondition(lambda self: self.living())
    @rule(data=st.data(), most=st.integers(0, 5), twice=st.booleans())
    def deliver(self, data: st.DataObject, most: int, twice: bool) -> None:
        data.draw(st.sampled_from(self.living())).deliver(most=most, twice=twice)

    # What goes wrong.

    @precondition(lambda self: self.living())
    @rule(data=st.data(), exit_code=st.sampled_from([-9, 137, 143, 20, 21, None]))
    def a_worker_dies(self, data: st.DataObject, exit_code: int | None) -> None:
        data.draw(st.sampled_from(self.living())).die(-9 if exit_code is None else exit_code)

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def a_worker_cannot_go_on(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.living()))
        worker.die(FATAL_EXIT)
        self.doomed.add(worker.run_id)

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def a_worker_freezes_for_good(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.living())).is_frozen = True

    @precondition(lambda self: self.living())
    @rule(data=st.data(), hours=st.sampled_from([-5, 5]))
    def a_clock_is_wrong(self, data: st.DataObject, hours: int) -> None:
        data.draw(st.sampled_from(self.living())).skew_s = 3600.0 * hours

    @rule()
    def the_service_is_killed(self) -> None:
        self.stage.reconciler = Reconciler(self.stage.ctx, max_gap_s=1e9)

    @rule()
    def the_head_forgets_everything(self) -> None:
        self.stage.cluster.forget_jobs()

    @rule(is_up=st.booleans())
    def ray_comes_or_goes(self, is_up: bool) -> None:
        self.stage.cluster.is_reachable = is_up

    @rule(is_up=st.booleans())
    def mlflow_comes_or_goes(self, is_up: bool) -> None:
        self.stage.tracker.is_reachable = is_up

    # What always holds.

    @invariant()
    def every_move_is_one_of_the_table(self) -> None:
        for run_id in getattr(self, "runs", ()):
            moves = [event for event in self.events(run_id) if event.to_state is not None]
            for before, after in itertools.pairwise(moves):
                assert before.to_state is after.from_state
                assert after.from_state is not None
                assert can_transition(after.from_state, after.to_state or RunState.QUEUED)

    @invariant()
    def no_metric_has_a_gap_or_a_double(self) -> None:
        for run_id in getattr(self, "runs", ()):
            steps = self.steps(run_id)
            assert steps == list(range(1, len(steps) + 1))

    # Tools.

    def take_a_turn(self) -> None:
        for step in (
            lambda: submit_queued(self.stage.ctx),
            self.stage.reconciler.run_once,
            lambda: sync_finished_runs(self.stage.ctx),
        ):
            with suppress(Unreachable):
                step()
        self.start_workers()

    def start_workers(self) -> None:
        """What Ray does: a pending job begins, once."""
        cluster = self.stage.cluster
        for job, order in list(cluster.job_requests.items()):
            known = cluster.jobs_by_id.get(job)
            if known is None or known.is_over or job in self.workers:
                continue
            if order.command[1] == "train":
                self.begin(job, order)
            else:
                cluster.set_job_state(job, "succeeded", exit_code=0)
            if order.command[1] == "flush":
                self.has_shipped(order.metadata["run_id"])
        running = sum(cluster.jobs_by_id.get(job) == Job("running") for job in self.workers)
        cluster.cluster_nodes = (Node(3.0, 0.0, max(0.0, 3.0 - running), 0.0, "n1"),)

    def begin(self, job: str, order: JobRequest) -> None:
        """An attempt begins by ending what earlier ones left on its node."""
        run_id, attempt = order.metadata["run_id"], int(order.metadata["attempt"])
        for worker in self.workers.values():
            worker.has_left |= worker.run_id == run_id
        self.workers[job] = SimulatedWorker(self.stage, run_id, attempt)
        self.stage.cluster.node_ids_by_job[job] = "n1"
        self.stage.cluster.set_job_state(job, "running")

    def has_shipped(self, run_id: str) -> None:
        folder = self.stage.home / "runs" / run_id
        count = len((folder / "spool.jsonl").read_bytes().splitlines())
        (folder / "spool.mlflow.position").write_text(str(count))

    def living(self) -> list[SimulatedWorker]:
        return [one for one in self.workers.values() if not one.is_gone and not one.is_frozen]

    def calm_down(self) -> None:
        """No more faults: every run must come to its end."""
        self.stage.cluster.is_reachable = self.stage.tracker.is_reachable = True
        for _ in range(CALM_TURNS):
            for run_id in self.runs:
                if self.stage.run(run_id)["desired"] == "paused":
                    self.stage.http.post(f"/v1/runs/{run_id}:resume")
            self.stage.clock.advance(20)
            self.take_a_turn()
            for worker in self.living():
                worker.train()
                if not worker.is_gone:
                    worker.deliver()
            if all(RunState(self.stage.run(run)["state"]) not in NOT_OVER for run in self.runs):
                return
        states = {run: self.stage.run(run) for run in self.runs}
        raise AssertionError(f"not over after {CALM_TURNS} turns: {states}")

    def all_is_well(self) -> None:
        for run_id in self.runs:
            run = self.stage.run(run_id)
            expected = {"succeeded"}
            if run_id in self.cancelled:
                expected.add("cancelled")
            if run_id in self.doomed:
                expected.add("failed")
            assert run["state"] in expected, (run, self.events(run_id))
            if run["state"] == "succeeded":
                assert self.steps(run_id) == list(range(1, STEPS + 1))
            attempts = self.stage.http.get(f"/v1/runs/{run_id}/attempts").json()
            assert [one["number"] for one in attempts] == list(range(1, len(attempts) + 1))
            assert all(one["ended_at"] for one in attempts)

    def events(self, run_id: str) -> list[Event]:
        with self.stage.ctx.store.transaction() as uow:
            return uow.events.of_run(run_id)

    def steps(self, run_id: str) -> list[int]:
        with self.stage.ctx.store.transaction() as uow:
            points = uow.metric_points.of_run(run_id, key="train/loss")
        assert all(point.value == loss_at(point.step) for point in points)
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
