"""What the trainer can say, and the silence of processes that are not the first."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from configs.protocol.failure import FailureReason
from configs.protocol.records import Result, StopKind
from configs.spec.dataset import DatasetManifest
from workers.machine.environment import ProcessInfo
from workers.telemetry.heartbeat import Heartbeat

Phase = Literal["preparing", "training", "evaluating", "finishing"]


class Reporter(Protocol):
    """Takes what the trainer says."""

    heartbeat: Heartbeat

    @property
    def requested_stop(self) -> StopKind | None:
        """Why the service wants this attempt to leave; none: it does not."""

    @property
    def is_superseded(self) -> bool:
        """A newer attempt has taken over."""

    def report_start(
        self,
        where: ProcessInfo,
        *,
        resumed_from_epoch: int,
        teacher_sha256: str | None,
        dataset: DatasetManifest,
    ) -> None:
        """Say where this attempt runs, on what, and from which epoch."""

    def report_metrics(self, *, step: int, values: Mapping[str, float]) -> None:
        """Say the values of one step."""

    def report_progress(
        self,
        *,
        phase: Phase,
        epoch: int,
        epochs: int,
        step: int,
        steps: int,
        eta_s: float | None,
    ) -> None:
        """Say how far training is."""

    def report_artifact(self, path: str) -> None:
        """Have a file of the run's folder kept."""

    def report_note(self, text: str) -> None:
        """Say something that people should find among the run's events."""

    def report_outcome(
        self,
        result: Result,
        *,
        reason: FailureReason | None = None,
        message: str = "",
        best_map: float | None = None,
        best_epoch: int | None = None,
    ) -> None:
        """Say how the attempt ended."""

    def drain(self, *, timeout_s: float) -> bool:
        """Bring everything to where it belongs; whether it is there."""


class NullReporter:
    """Implements `Reporter`: one process of a run speaks for all, the others say nothing."""

    requested_stop: StopKind | None = None
    is_superseded = False

    def __init__(self) -> None:
        self.heartbeat = Heartbeat()

    def report_start(self, where: ProcessInfo, **facts: Any) -> None:
        """Nothing."""

    def report_metrics(self, *, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def report_progress(self, *, phase: Phase, **_: Any) -> None:
        """Nothing, but that another phase may have begun."""
        self.heartbeat.beat(phase)

    def report_artifact(self, path: str) -> None:
        """Nothing."""

    def report_note(self, text: str) -> None:
        """Nothing."""

    def report_outcome(self, result: Result, **facts: Any) -> None:
        """Nothing."""

    def drain(self, *, timeout_s: float) -> bool:  # noqa: ARG002
        """Nothing is left, for nothing was said."""
        return True
