"""Closed sets of values that requests and responses contain.

A module without other imports of Tandem: commands import it first.
"""

from enum import StrEnum
from typing import Literal

BaselineMode = Literal["auto", "off"]
"""Whether a distilled run gets a baseline."""

DesiredState = Literal["run", "paused", "cancelled"]
"""What a person wants of a run."""

ReportFormat = Literal["html", "md", "json"]
"""A web page, text, or data for programs."""

RunOrder = Literal["newest", "best_map"]
"""Orders of a list of runs. `best_map`: the highest mAP first; runs without one are left out."""


class Role(StrEnum):
    """What a caller may do; each role includes those before it."""

    VIEWER = "viewer"
    """Read runs, sweeps, logs and metrics."""

    RUNNER = "runner"
    """Launch, pause and cancel; register datasets and teachers."""

    ADMIN = "admin"
    """Change projects, create and revoke tokens, read the audit log."""

    def includes(self, other: "Role") -> bool:
        """Whether this role may do all that `other` may."""
        ascending = list(Role)
        return ascending.index(self) >= ascending.index(other)


class EventKind(StrEnum):
    """What happened to a run."""

    LAUNCHED = "launched"
    STATE_CHANGED = "state_changed"
    WAITING = "waiting"
    """What the run waits for has changed."""

    JOB_REJECTED = "job_rejected"
    LEASE_TAKEN = "lease_taken"
    """Another service process manages the run from now on."""

    PACK_JOINED = "pack_joined"
    PROCESSES_REDUCED = "processes_reduced"
    """The attempt has fewer processes than the spec asks for."""

    NOTE = "note"
    """The worker reported it."""

    RECORDS_REJECTED = "records_rejected"
    """The database takes no value of the rest of the spool."""

    CANCEL_REQUESTED = "cancel_requested"
    PAUSE_REQUESTED = "pause_requested"
    RESUME_REQUESTED = "resume_requested"
    PRIORITY_CHANGED = "priority_changed"
    PREEMPTED = "preempted"
    STALLED = "stalled"
    BASELINE_ASSIGNED = "baseline_assigned"
    BASELINE_LOST = "baseline_lost"
    BASELINE_RECOVERED = "baseline_recovered"
    CONTROL_ASSIGNED = "control_assigned"
    REPORT_REQUESTED = "report_requested"
    REPORT_REJECTED = "report_rejected"
    """The results of a report cannot be read."""

    NO_VERDICT = "no_verdict"
