"""The interface through which a job reports, and its implementation that reports nothing."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from configs.protocol.failure import FailureReason
from configs.protocol.records import Result, StopKind
from configs.spec.dataset import DatasetManifest
from workers.machine.environment import ProcessInfo
from workers.telemetry.heartbeat import Heartbeat

Phase = Literal["preparing", "training", "evaluating", "finishing"]


class Reporter(Protocol):
    """Reports what an attempt does; no method waits for the network, except `drain`."""

    heartbeat: Heartbeat

    @property
    def requested_stop(self) -> StopKind | None:
        """Why the service wants this attempt to stop; None unless it does."""

    @property
    def is_superseded(self) -> bool:
        """Whether a newer attempt of the run has started, as last polled."""

    def check_superseded(self) -> bool:
        """As `is_superseded`, after reading the run's folder now."""

    def report_start(
        self,
        process: ProcessInfo,
        *,
        resumed_from_epoch: int,
        teacher_sha256: str | None,
        dataset: DatasetManifest,
    ) -> None:
        """`teacher_sha256` is None without a teacher."""

    def report_metrics(self, *, step: int, values: Mapping[str, float]) -> None:
        """Report the values of one step, by metric key."""

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
        """`eta_s`: seconds until training ends; None while there is no estimate."""

    def report_artifact(self, path: str) -> None:
        """Have a file logged to MLflow; `path` is relative to the run's folder."""

    def report_note(self, text: str) -> None:
        """Add a message for people to the run's events."""

    def report_outcome(
        self,
        result: Result,
        *,
        reason: FailureReason | None = None,
        message: str = "",
        best_map: float | None = None,
        best_epoch: int | None = None,
    ) -> None:
        """Report how the attempt ended; `reason` is given with result "failed" only."""

    def drain(self, *, timeout_s: float) -> bool:
        """Wait until everything is delivered, at most `timeout_s`; returns whether it is."""


class NullReporter:
    """Implements `Reporter` for processes that report nothing: only the main process does."""

    requested_stop: StopKind | None = None
    is_superseded = False

    def __init__(self) -> None:
        self.heartbeat = Heartbeat()

    def check_superseded(self) -> bool:
        return False

    def report_start(self, process: ProcessInfo, **facts: Any) -> None: ...

    def report_metrics(self, *, step: int, values: Mapping[str, float]) -> None: ...

    def report_progress(self, *, phase: Phase, **_: Any) -> None:
        self.heartbeat.beat(phase)

    def report_artifact(self, path: str) -> None: ...

    def report_note(self, text: str) -> None: ...

    def report_outcome(self, result: Result, **facts: Any) -> None: ...

    def drain(self, *, timeout_s: float) -> bool:  # noqa: ARG002
        return True
