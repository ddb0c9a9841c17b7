"""Roles of callers; a module without other imports, for the start-up time of the command line."""

from enum import StrEnum


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
