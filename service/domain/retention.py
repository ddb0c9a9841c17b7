"""How long things are kept, and what is kept although it is old enough to be deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from service.domain.errors.conflicts import Conflict
from service.domain.states import RunState


class PrunedKind(StrEnum):
    """What retention deletes."""

    EVENTS = "events"
    METRICS = "metric_values"
    LOGS = "stored_logs"
    CHECKPOINTS = "checkpoints"
    FOLDERS = "run_folders"
    SPOOLS = "delivered_spools"
    IDEMPOTENCY_KEYS = "idempotency_keys"
    TOKENS = "invalid_tokens"
    AUDIT = "audit_entries"
    RAY_JOBS = "finished_ray_jobs"
    LEFTOVERS = "interrupted_deletions"


RunRows = Literal["events", "metric_values", "idempotency_keys"]
"""Rows that belong to a run."""

RunPart = Literal["folder", "checkpoints", "spool", "logs"]
"""Files of a run: its folder, or a part of it; and its logs as the service stores them."""


@dataclass(frozen=True)
class RunRetention:
    """Days after the end of a run until something of it is deleted; None keeps it for ever."""

    events_days: float | None = None
    metrics_days: float | None = None
    logs_days: float | None = None
    checkpoints_days: float | None = None
    folders_days: float | None = None
    spools_days: float | None = 7.0
    """Only of runs that succeeded, once all records are in the database and in MLflow."""


@dataclass(frozen=True)
class RetentionPolicy:
    """What is deleted when; None keeps it for ever."""

    runs: RunRetention = RunRetention()
    projects: Mapping[str, RunRetention] = field(default_factory=dict)
    """Projects that differ from `runs`."""

    idempotency_keys_days: float | None = 30.0
    """After the end of the run or sweep that a key launched."""

    tokens_days: float | None = 90.0
    """After a token was revoked or has expired."""

    audit_days: float | None = None
    ray_jobs_days: float | None = 7.0
    """After the end of a job whose attempt is concluded."""

    def of_project(self, project: str) -> RunRetention:
        return self.projects.get(project, self.runs)

    @property
    def min_run_days(self) -> float | None:
        """The age from which on something of a run may be deleted; None if nothing ever is."""
        policies = (self.runs, *self.projects.values())
        days = [value for policy in policies for value in vars(policy).values()]
        return min(filter(None, [*days, self.idempotency_keys_days]), default=None)


DEFAULT_RETENTION: Final = RetentionPolicy()


@dataclass(frozen=True)
class FinishedRun:
    """A run that is over."""

    id: str
    project: str
    state: RunState
    finished_at: datetime
    is_synced: bool
    """Whether all of its records are in MLflow."""


@dataclass(frozen=True)
class Pruned:
    """What one step deleted, or would delete."""

    kind: PrunedKind
    number: int
    size_bytes: int = 0
    """Of files; 0 for rows."""

    num_protected: int = 0
    """Runs whose files are old enough, but which others refer to."""

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(
            self.kind,
            self.number + other.number,
            self.size_bytes + other.size_bytes,
            self.num_protected + other.num_protected,
        )


class FilesDeleted(Conflict):
    """A run cannot continue, because retention has deleted files of it."""

    code = "files_deleted"
    advice = "Launch it anew: `tandem show RUN` says with which preset."

    def __init__(self, run_id: str) -> None:
        super().__init__(f"Files of run {run_id} were deleted by the retention settings.")


def is_due(days: float | None, since: datetime, *, now: datetime) -> bool:
    """Whether something that ended at `since` is to be deleted."""
    return days is not None and since <= now - timedelta(days=days)
