"""What the report of an autopilot says of its jobs, besides its history."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from configs.spec.jobs import ExportFormat
from service.domain.states import RunState


@dataclass(frozen=True)
class EvaluationFacts:
    """An evaluation of a student for the delivery. Values are None until it has succeeded."""

    run_id: str
    state: RunState
    device: str | None
    mean_ap: float | None
    """From 0 to 1."""

    latency_ms: float | None


@dataclass(frozen=True)
class ExportFacts:
    """The job that exports what is delivered."""

    run_id: str
    state: RunState
    formats: tuple[ExportFormat, ...]
    folder: str


@dataclass(frozen=True)
class ReportFacts:
    """Of all jobs of an autopilot, at one moment."""

    at: datetime
    run_ids: Mapping[str, str]
    """By key of the job."""

    evaluations: Mapping[str, EvaluationFacts]
    """By key of the launch that trained the student."""

    export: ExportFacts | None = None
    """None before the delivery."""

    run_conclusion: str | None = None
    """The sentence of the delivered run's own report. None without a report."""
