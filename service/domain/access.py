"""Who asks, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do; each may do all that those before it may."""

    VIEWER = "viewer"
    """Look."""

    RUNNER = "runner"
    """Launch, pause, cancel; register datasets and teachers."""

    ADMIN = "admin"
    """Set projects, give and take back access, read the audit."""


@dataclass(frozen=True)
class Caller:
    """Who asks; `project` none: of all projects."""

    name: str
    role: Role
    project: str | None = None


LOCAL = Caller("user", Role.ADMIN)
"""Whoever sits at this machine, where access control is off."""
