"""A worker that trains nothing, and keeps every promise of a real one: spool, checkpoints, orders.

Its loss at a step is known beforehand, so that a gap, a double or a mix-up shows.
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
STEPS_A_CHECKPOINT = 3

_EXITS: dict[Result, ExitCode] = {
    "succeeded": ExitCode.SUCCEEDED,
    "cancelled": ExitCode.CANCELLED,
    "stopped": ExitCode.STOPPED,
}
_RECORDS: TypeAdapter[Record] = TypeAdapter(Record)


def loss_at(step: int) -> float:
    """What every attempt finds at a step."""
    return 1.0 / step


@dataclass
class SimulatedWorker:
    """One attempt of one run."""

    stage: Stage
    run_id: str
    attempt: int
    skew_s: float = 0.0
    """How wrong the clock of its node is."""

    step: int = 0
    delivered: int = 0
    stop: StopKind | None = None
    has_left: bool = False
    is_frozen: bool = False
    said: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._spool.touch()
        content = self._spool.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        self._spool.write_bytes(whole)
        self.said = [_RECORDS.validate_json(line) for line in whole.splitlines()]
        checkpoint = self._folder / "checkpoint.json"
        self.step = json.loads(checkpoint.read_text())["step"] if checkpoint.exists() else 0

    @property
    def job(self) -> str:
        return f"{self.run_id}-a{self.attempt}"

    @property
    def is_gone(self) -> bool:
        """Whether its process has ended, whatever the cluster remembers."""
        job = self._cluster.jobs_by_id.get(self.job)
        return self.has_left or (job is not None and job.is_over)

    def train(self) -> None:
        """One step, and a checkpoint where one is due; the end after the last."""
        if self.stop is not None:
            self._checkpoint()
            self._leave("cancelled" if self.stop == "cancel" else "stopped")
            return
        self.step += 1
        last = max((one.step for one in self.said if isinstance(one, Metrics)), default=0)
        if self.step > last:
            self._say(
                Metrics(
                    at=self._now(),
                    attempt=self.attempt,
                    step=self.step,
                    values={"train/loss": loss_at(self.step)},
                )
            )
        self._say(self._progress())
        if self.step % STEPS_A_CHECKPOINT == 0:
            self._checkpoint()
        if self.step >= STEPS:
            self._checkpoint()
            self._leave("succeeded")

    def deliver(self, *, most: int = 100, twice: bool = False) -> None:
        """Bring what is new; leave if the service says so."""
        records = tuple(self.said[self.delivered : self.delivered + most])
        left = len(self.said) - self.delivered
        delivery = Delivery(
            first=self.delivered, records=records, pending_records={"service": left}
        )
        body = delivery.model_dump(mode="json")
        url = f"/v1/runs/{self.run_id}/attempts/{self.attempt}/deliveries"
        for _ in range(2 if twice else 1):
            response = self.stage.http.post(url, json=body)
            if response.status_code == 409:
                self.has_left = True
                self._ends("failed", ExitCode.SUPERSEDED)
                return
            assert response.status_code in (200, 503), response.text
            if response.status_code == 503:
                return
            receipt = response.json()
            self.delivered = min(receipt["next"], len(self.said))
            self.stop = self.stop or receipt["stop"]

    def die(self, exit_code: int = -9) -> None:
        """As by kill -9, perhaps in the middle of a line."""
        with self._spool.open("ab") as file:
            file.write(b'{"kind": "met')
        self.has_left = True
        self._ends("failed", exit_code)

    def _leave(self, result: Result) -> None:
        self._say(Outcome(at=self._now(), attempt=self.attempt, result=result))
        self.has_left = True
        self._ends("succeeded" if result == "succeeded" else "failed", _EXITS[result])

    def _ends(self, state: JobState, exit_code: int) -> None:
        if self.job in self._cluster.jobs_by_id and not self._cluster.jobs_by_id[self.job].is_over:
            self._cluster.set_job_state(self.job, state, exit_code=exit_code)

    def _say(self, record: Record) -> None:
        self.said.append(record)
        with self._spool.open("ab") as file:
            file.write(record.model_dump_json().encode() + b"\n")

    def _checkpoint(self) -> None:
        (self._folder / "checkpoint.json").write_text(json.dumps({"step": self.step}))

    def _metrics(self) -> Metrics:
        values = {"train/loss": loss_at(self.step)}
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
