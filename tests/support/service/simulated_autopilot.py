"""An autopilot in a `Stage`: the test acts as the workers of its runs, whose results are known."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from configs.metric_keys import Metric
from configs.protocol.names import RunFile
from configs.protocol.probe import Costs, Probe
from configs.protocol.records import Metrics, Outcome, Progress, Record
from configs.spec.active_methods import iter_methods, method_name
from configs.spec.autopilot import AutopilotBudget
from configs.spec.detector import ResNet
from configs.spec.jobs import EvaluationSpec, ProbeSpec
from configs.spec.run import RunSpec
from service.domain.access import LOCAL_CALLER
from service.domain.autopilot.autopilots import Autopilot, AutopilotPhase
from service.domain.autopilot.history import AutopilotHistory, Conclusion
from service.domain.runs import Run
from service.domain.states import ACTIVE_STATES
from service.usecases.autopilots.launch import LaunchAutopilot, launch_autopilot
from service.usecases.autopilots.outcomes import read_history
from service.usecases.runs.plan import LaunchRun
from tests.support.factories import make_bckd_spec, write_checkpoint
from tests.support.service.stage import Stage

EPOCHS = 4
STEPS_PER_EPOCH = 10
TURN_S = 20.0
"""Seconds by the clock between two turns, in which each running run trains an epoch."""

MAX_TURNS = 400

BASELINE_MAP = 0.30
GAINS: Mapping[str, float] = {"bckd": 0.04, "pkd": 0.02}
"""Of the methods that help; the others do not."""

DEVIATION = 0.004
"""Of a run's mAP over seeds."""

TEACHER_DEPTH, TEACHER_GAIN = 50, 0.2
"""Of a ResNet that is trained to be a teacher, and its mAP above the student's."""

LATENCY_MS = 12.5
"""In evaluations."""

COSTS = Costs(
    load_s=0.1,
    teacher_s=0.4,
    student_s=0.4,
    evaluation_s=1.0,
    steps_per_epoch=STEPS_PER_EPOCH,
    base_bytes=1000,
    member_bytes=200,
    available_bytes=2000,
    latency_s=0.012,
    device="cpu",
)


def mean_ap(spec: RunSpec, epoch: int, *, gains: Mapping[str, float] = GAINS) -> float:
    """mAP of a run after an epoch: a function of its spec alone."""
    gain = sum(gains.get(method_name(method), 0.0) for method in iter_methods(spec.distillation))
    noise = random.Random(f"{spec.seed} {spec.distillation}").gauss(0.0, DEVIATION)
    gain += TEACHER_GAIN if _is_teacher(spec) else 0.0
    lost = 0.1 * abs(spec.schedule.optimizer.lr / 0.01 - 1.0)
    return (BASELINE_MAP + gain + noise - lost) * (0.5 + 0.5 * epoch / spec.schedule.epochs)


def _is_teacher(spec: RunSpec) -> bool:
    backbone = spec.student.backbone
    return isinstance(backbone, ResNet) and backbone.depth == TEACHER_DEPTH


@dataclass
class SimulatedAutopilot:
    """Trains the runs of an autopilot, an epoch a turn."""

    stage: Stage
    id: str
    costs: Costs = COSTS
    gains: Mapping[str, float] = field(default_factory=lambda: dict(GAINS))
    _records: dict[str, int] = field(default_factory=dict)
    _epochs: dict[str, int] = field(default_factory=dict)

    @property
    def autopilot(self) -> Autopilot:
        with self.stage.ctx.store.snapshot() as uow:
            return uow.autopilots.get(self.id)

    @property
    def phase(self) -> AutopilotPhase:
        return self.autopilot.phase

    @property
    def history(self) -> AutopilotHistory:
        with self.stage.ctx.store.snapshot() as uow:
            return read_history(uow, self.id, now=self.stage.clock.now())

    @property
    def conclusion(self) -> Conclusion:
        conclusion = self.history.entries[-1]
        assert isinstance(conclusion, Conclusion), conclusion
        return conclusion

    @property
    def runs(self) -> dict[str, Run]:
        """Its runs by key."""
        with self.stage.ctx.store.snapshot() as uow:
            return {job.key: uow.runs.get(job.run_id) for job in uow.autopilots.jobs(self.id)}

    def turn(self) -> None:
        """Run all loops, then let every run that trains train an epoch; other jobs end."""
        self.stage.run_loops()
        self.stage.clock.advance(TURN_S)
        with self.stage.ctx.store.snapshot() as uow:
            active = {run.id: run for run in uow.runs.in_states(*ACTIVE_STATES)}
        for run in active.values():
            self._train(run)
        for run in active.values():
            self._end_job(run)

    def advance_to(self, *phases: AutopilotPhase) -> None:
        """Take turns until it is in one of the phases."""
        for _ in range(MAX_TURNS):
            if self.phase in phases:
                return
            self.turn()
        raise AssertionError(f"after {MAX_TURNS} turns it is {self.phase}")

    def _train(self, run: Run) -> None:
        spec = run.spec
        if isinstance(spec, RunSpec):
            self._train_epoch(run, spec)
        elif isinstance(spec, ProbeSpec):
            probe = Probe(effects={}, costs=self.costs, detection_loss=1.0, unit_losses={})
            path = self.stage.home / "runs" / run.id / RunFile.PROBE
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(probe.model_dump_json())
            self._finish(run)
        else:
            if isinstance(spec, EvaluationSpec):
                metrics = self._metrics(run, step=1, value=0.5)
                values = {**metrics.values, Metric.LATENCY_P50_MS: LATENCY_MS}
                self._deliver(run, metrics.model_copy(update={"values": values}))
            self._finish(run)

    def _train_epoch(self, run: Run, spec: RunSpec) -> None:
        epoch = self._epochs[run.id] = self._epochs.get(run.id, 0) + 1
        value = mean_ap(spec, epoch, gains=self.gains)
        stop = self._deliver(
            run,
            self._progress(run, spec, epoch),
            self._metrics(run, step=epoch * STEPS_PER_EPOCH, value=value),
        )
        if stop is not None:
            self._finish(run, "cancelled" if stop == "cancel" else "stopped")
        elif epoch >= spec.schedule.epochs:
            checkpoint = self.stage.home / "runs" / run.id / RunFile.BEST
            write_checkpoint(checkpoint)
            self._finish(run)

    def _progress(self, run: Run, spec: RunSpec, epoch: int) -> Progress:
        return Progress(
            at=self.stage.clock.now(),
            attempt=run.attempt,
            phase="training",
            epoch=epoch,
            epochs=spec.schedule.epochs,
            step=epoch * STEPS_PER_EPOCH,
            steps=spec.schedule.epochs * STEPS_PER_EPOCH,
            eta_s=None,
        )

    def _metrics(self, run: Run, *, step: int, value: float) -> Metrics:
        now = self.stage.clock.now()
        return Metrics(at=now, attempt=run.attempt, step=step, values={Metric.MAP: value})

    def _finish(self, run: Run, result: str = "succeeded") -> None:
        outcome = {"at": self.stage.clock.now(), "attempt": run.attempt, "result": result}
        self._deliver(run, Outcome.model_validate(outcome))

    def _deliver(self, run: Run, *records: Record) -> str | None:
        """Deliver records of a run; returns the stop order."""
        first = self._records.get(run.id, 0)
        self._records[run.id] = first + len(records)
        body = {"first": first, "records": [record.model_dump(mode="json") for record in records]}
        url = f"/v1/runs/{run.id}/attempts/{run.attempt}/deliveries"
        response = self.stage.http.post(url, json=body)
        assert response.is_success, response.text
        stop: str | None = response.json()["stop"]
        return stop

    def _end_job(self, run: Run) -> None:
        """End the job of a run once all that train in it have reported their outcomes."""
        with self.stage.ctx.store.snapshot() as uow:
            members = uow.runs.of_pack(run.pack.job) if run.pack.job else [uow.runs.get(run.id)]
        if all(member.ingest.pending_outcome for member in members if not member.is_over):
            job = self.stage.cluster.jobs_by_id.get(run.job_id)
            if job is not None and not job.is_over:
                self.stage.cluster.set_job_state(run.job_id, "succeeded", exit_code=0)


def launch_simulated(stage: Stage, **changes: Any) -> SimulatedAutopilot:
    """Launch an autopilot with an existing dataset and teacher, and four hours by default."""
    stage.add_dataset()
    stage.add_teacher()
    spec = make_bckd_spec(schedule={"epochs": EPOCHS, "optimizer": {"kind": "sgd", "lr": 0.01}})
    request = LaunchAutopilot(
        **{
            "base": LaunchRun(spec=spec),
            "budget": AutopilotBudget(hours=4.0),
            "name": "pets",
            "methods": ("bckd", "cwd"),
            **changes,
        }
    )
    autopilot, _ = launch_autopilot(request, key=None, caller=LOCAL_CALLER, ctx=stage.ctx)
    return SimulatedAutopilot(stage, autopilot.id)
