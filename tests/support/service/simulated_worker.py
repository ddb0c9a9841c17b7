"""A worker that does not train, with the spool, checkpoints and stop requests of a real one.

Its loss is a function of the step, so that tests detect gaps, duplicates and mixed-up values.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter

from configs.protocol.names import ExitCode, RunFile
from configs.protocol.records import (
    Delivery,
    Metrics,
    Outcome,
    Progress,
    Record,
    Result,
    StopKind,
)
from service.adapters.simulated import SimulatedCluster
from service.domain.ports import JobState
from tests.support.service.stage import Stage

STEPS = 8
STEPS_PER_CHECKPOINT = 3

_EXIT_CODES: dict[Result, ExitCode] = {
    "succeeded": ExitCode.SUCCEEDED,
    "cancelled": ExitCode.CANCELLED,
    "stopped": ExitCode.STOPPED,
}
_RECORD_ADAPTER: TypeAdapter[Record] = TypeAdapter(Record)


def compute_loss(step: int) -> float:
    return 1.0 / step


@dataclass
class SimulatedWorker:
    """One attempt of one run."""

    stage: Stage
    run_id: str
    attempt: int
    skew_s: float = 0.0
    """Offset of its node's clock."""

    step: int = 0
    delivered: int = 0
    stop: StopKind | None = None
    has_stopped: bool = False
    is_frozen: bool = False
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._spool.touch()
        content = self._spool.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        self._spool.write_bytes(complete)
        self.records = [_RECORD_ADAPTER.validate_json(line) for line in complete.splitlines()]
        checkpoint = self._folder / "checkpoint.json"
        self.step = json.loads(checkpoint.read_text())["step"] if checkpoint.exists() else 0

    @property
    def job(self) -> str:
        return f"{self.run_id}-a{self.attempt}"

    @property
    def has_exited(self) -> bool:
        """Whether its process has ended, even if the cluster has forgotten the job."""
        job = self._cluster.jobs_by_id.get(self.job)
        return self.has_stopped or (job is not None and job.is_over)

    def train(self) -> None:
        """Train one step; write a checkpoint when one is due and finish after the last step."""
        if self.stop is not None:
            self._checkpoint()
            self._finish("cancelled" if self.stop == "cancel" else "stopped")
            return
        self.step += 1
        last_step = max(
            (record.step for record in self.records if isinstance(record, Metrics)), default=0
        )
        if self.step > last_step:
            self._append_record(
                Metrics(
                    at=self._now(),
                    attempt=self.attempt,
                    step=self.step,
                    values={"train/loss": compute_loss(self.step)},
                )
            )
        self._append_record(self._progress())
        if self.step % STEPS_PER_CHECKPOINT == 0:
            self._checkpoint()
        if self.step >= STEPS:
            self._checkpoint()
            self._finish("succeeded")

    def deliver(self, *, max_records: int = 100, is_repeated: bool = False) -> None:
        """Deliver new records; stop if the service says that the attempt is superseded."""
        records = tuple(self.records[self.delivered : self.delivered + max_records])
        num_pending = len(self.records) - self.delivered
        delivery = Delivery(
            first=self.delivered, records=records, pending_records={"service": num_pending}
        )
        body = delivery.model_dump(mode="json")
        url = f"/v1/runs/{self.run_id}/attempts/{self.attempt}/deliveries"
        for _ in range(2 if is_repeated else 1):
            response = self.stage.http.post(url, json=body)
            if response.status_code == 409:
                self.has_stopped = True
                self._end_job("failed", ExitCode.SUPERSEDED)
                return
            assert response.status_code in (200, 503), response.text
            if response.status_code == 503:
                return
            receipt = response.json()
            self.delivered = min(receipt["next"], len(self.records))
            self.stop = self.stop or receipt["stop"]

    def crash(self, exit_code: int = -9) -> None:
        """End like a killed process, with a torn line in the spool."""
        with self._spool.open("ab") as file:
            file.write(b'{"kind": "met')
        self.has_stopped = True
        self._end_job("failed", exit_code)

    def _finish(self, result: Result) -> None:
        self._append_record(Outcome(at=self._now(), attempt=self.attempt, result=result))
        self.has_stopped = True
        self._end_job("succeeded" if result == "succeeded" else "failed", _EXIT_CODES[result])

    def _end_job(self, state: JobState, exit_code: int) -> None:
        if self.job in self._cluster.jobs_by_id and not self._cluster.jobs_by_id[self.job].is_over:
            self._cluster.set_job_state(self.job, state, exit_code=exit_code)

    def _append_record(self, record: Record) -> None:
        self.records.append(record)
        with self._spool.open("ab") as file:
            file.write(record.model_dump_json().encode() + b"\n")

    def _checkpoint(self) -> None:
        (self._folder / "checkpoint.json").write_text(json.dumps({"step": self.step}))

    def _metrics(self) -> Metrics:
        values = {"train/loss": compute_loss(self.step)}
        return Metrics(at=self._now(), attempt=self.attempt, step=self.step, values=values)

    def _progress(self) -> Progress:
        return Progress(
            at=self._now(),
            attempt=self.attempt,
            phase="training",
            epoch=1,
            epochs=1,
            step=self.step,
            steps=STEPS,
            eta_s=None,
        )

    def _now(self) -> datetime:
        return self.stage.clock.now() + timedelta(seconds=self.skew_s)

    @property
    def _folder(self) -> Path:
        return self.stage.home / "runs" / self.run_id

    @property
    def _spool(self) -> Path:
        return self._folder / RunFile.SPOOL

    @property
    def _cluster(self) -> SimulatedCluster:
        return self.stage.cluster
