"""Errors that callers of the service see; programs read `code`.

TandemError
├── NotFound         run_not_found, sweep_not_found, report_not_found, dataset_not_found,
│                    teacher_not_found, preset_not_found, token_not_found, dependency_failed,
│                    checkpoint_missing
├── Unauthenticated  unauthenticated
├── Forbidden        insufficient_role, project_forbidden, priority_forbidden, replace_forbidden
├── Conflict         invalid_transition, invalid_sweep_transition, sweep_log_conflict,
│                    driver_superseded, attempt_superseded, lease_lost, idempotency_key_reused,
│                    name_taken, nothing_to_promote, nothing_to_repeat, files_deleted
├── token_refused, spec_refused, sweep_entry_refused, path_refused, value_refused,
│   log_chunk_too_large, schema_unknown, backup_refused, job_refused, cluster_fault, tracker_refused
└── Unreachable      cluster_unreachable, tracker_unreachable, database_unreachable
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """One invalid field; the message says why, and what to write instead."""

    field: str
    """Its dotted path in the request, as in `data.dataset.name`."""

    code: str
    message: str


class TandemError(Exception):
    """The base of all errors that the API and the command line show to their callers."""

    code: ClassVar[str] = "error"
    advice: ClassVar[str | None] = None
    field_errors: tuple[FieldError, ...] = ()


class NotFound(TandemError):
    """A request names something that does not exist."""


class RunNotFound(NotFound):
    """No run has this id."""

    code = "run_not_found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id}. `tandem runs` lists them.")


class SweepNotFound(NotFound):
    """No sweep has this id."""

    code = "sweep_not_found"

    def __init__(self, sweep_id: str) -> None:
        super().__init__(f"There is no sweep {sweep_id}. `tandem sweeps` lists them.")


class ReportNotFound(NotFound):
    """A run or a sweep has no report, or none yet."""

    code = "report_not_found"

    def __init__(self, subject: str, *, hint: str) -> None:
        super().__init__(f"There is no report of {subject}. {hint}")


class DatasetNotFound(NotFound):
    """No dataset has this name."""

    code = "dataset_not_found"

    def __init__(self, name: str, *, hint: str) -> None:
        super().__init__(f"No dataset is called {name!r}. {hint}")


class TeacherNotFound(NotFound):
    """No teacher has this name."""

    code = "teacher_not_found"

    def __init__(self, name: str, *, hint: str) -> None:
        super().__init__(f"No teacher is called {name!r}. {hint}")


class PresetNotFound(NotFound):
    """No preset has this name."""

    code = "preset_not_found"
    advice = "`tandem presets` shows those there are."

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.field_errors = (FieldError("preset", self.code, message),)


class DependencyFailed(NotFound):
    """A run depends on another run for its teacher or its model, and that run failed."""

    code = "dependency_failed"

    def __init__(self, role: str, run_id: str, state: str) -> None:
        super().__init__(
            f"Its {role}, run {run_id}, is {state}. Retry that run with `tandem retry {run_id}`, "
            "then retry this one."
        )


class CheckpointMissing(NotFound):
    """A run has succeeded, but its checkpoint is not in its folder any more."""

    code = "checkpoint_missing"

    def __init__(self, role: str, run_id: str, file: str) -> None:
        super().__init__(f"Its {role}, run {run_id}, has no {file} in its folder any more.")


class TokenNotFound(NotFound):
    """No token has this id."""

    code = "token_not_found"

    def __init__(self, token_id: str) -> None:
        super().__init__(f"There is no token {token_id}. `tandem tokens list` shows them.")


class Unauthenticated(TandemError):
    """The request has no valid token. It is not said why, which would help whoever guesses one."""

    code = "unauthenticated"
    advice = (
        "Send a valid token, as `Authorization: Bearer ...`; an admin creates one with "
        "`tandem tokens create`."
    )

    def __init__(self) -> None:
        super().__init__("This service requires a token, and the request has no valid one.")


class Forbidden(TandemError):
    """The caller is authenticated, but may not do this."""


class InsufficientRole(Forbidden):
    """The caller's role does not include the one that is required."""

    code = "insufficient_role"

    def __init__(self, role: str, required: str, *, project: str | None = None) -> None:
        scope = " of all projects" if role == required and project is not None else ""
        super().__init__(f"This needs the role {required}{scope}, and your token's is {role}.")


class ProjectForbidden(Forbidden):
    """The caller's token is for another project."""

    code = "project_forbidden"

    def __init__(self, requested: str, own: str) -> None:
        super().__init__(f"Your token is for project {own!r}, not for {requested!r}.")


class TokenRefused(TandemError):
    """A token that could not be used, or that would give more access than it says."""

    code = "token_refused"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field_errors = (FieldError(field, self.code, why),)


class SpecRefused(TandemError):
    """The spec is invalid, or cannot run on this cluster; it lists every invalid field."""

    code = "spec_refused"
    advice = (
        "Nothing was created; correct the fields and send them again. "
        "POST /v1/runs:plan is the dry run."
    )

    def __init__(self, field_errors: Sequence[FieldError]) -> None:
        super().__init__(
            "; ".join(f"{f.field}: {f.message}" if f.field else f.message for f in field_errors)
        )
        self.field_errors = tuple(field_errors)


class EntryRefused(TandemError):
    """An entry that a driver may not append to the sweep log, or not now."""

    code = "sweep_entry_refused"

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"entries.{number}: {why}")
        self.field_errors = (FieldError(f"entries.{number}", self.code, why),)


class Conflict(TandemError):
    """The request contradicts the current state."""


class InvalidTransition(Conflict):
    """A run cannot go from its state to the requested one."""

    code = "invalid_transition"

    def __init__(self, run_id: str, from_state: str, to_state: str) -> None:
        super().__init__(f"Run {run_id} is {from_state} and cannot become {to_state}.")


class InvalidSweepTransition(Conflict):
    """A sweep cannot go from its state to the requested one."""

    code = "invalid_sweep_transition"

    def __init__(self, sweep_id: str, from_state: str, to_state: str) -> None:
        super().__init__(f"Sweep {sweep_id} is {from_state} and cannot become {to_state}.")


class SweepLogConflict(Conflict):
    """Another driver has appended to a sweep log, or the append would leave a gap."""

    code = "sweep_log_conflict"
    advice = "Read the log again and append at its end."

    def __init__(self, sweep_id: str, first: int, length: int) -> None:
        super().__init__(
            f"Entries from {first} on do not fit: the log of sweep {sweep_id} has {length} entries."
        )


class DriverSuperseded(Conflict):
    """A later driver has replaced the one that calls."""

    code = "driver_superseded"

    def __init__(self, sweep_id: str, number: int, current: int) -> None:
        super().__init__(f"Driver {number} of sweep {sweep_id} is superseded by driver {current}.")


class NothingToPromote(Conflict):
    """A sweep has no trial that could be trained as a separate run."""

    code = "nothing_to_promote"

    def __init__(self, sweep_id: str, why: str) -> None:
        super().__init__(f"Sweep {sweep_id}: {why}")


class AttemptSuperseded(Conflict):
    """Records came from an attempt that is not the current one."""

    code = "attempt_superseded"

    def __init__(self, run_id: str, number: int, current: int) -> None:
        super().__init__(f"Attempt {number} of run {run_id} is over; the current one is {current}.")


class LeaseLost(Conflict):
    """Another service process has the lease of the run."""

    code = "lease_lost"

    def __init__(self, run_id: str, owner: str | None) -> None:
        super().__init__(f"Run {run_id} is leased by {owner}.")


class IdempotencyKeyReused(Conflict):
    """An idempotency key was sent before, with another request."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The idempotency key {key!r} was used for another request; choose a new one."
        )


class NameTaken(Conflict):
    """The name belongs to something else."""

    code = "name_taken"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"Another {kind} is registered as {name!r}. Choose another name, or set replace: true."
        )


class PathRefused(TandemError):
    """A path does not exist, or lies outside of the allowed folders."""

    code = "path_refused"

    def __init__(self, field: str, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.field_errors = (FieldError(field, self.code, f"{path}: {why}"),)


class LogChunkTooLarge(TandemError):
    """A chunk of a log exceeds the limit."""

    code = "log_chunk_too_large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"A chunk of a log may have {max_bytes} bytes at most; send several.")


class ValueRefused(TandemError):
    """A value is too large or too long for its column in the database."""

    code = "value_refused"

    def __init__(self, why: str) -> None:
        super().__init__(f"The database rejects a value: {why}. Nothing was changed.")


class SchemaUnknown(TandemError):
    """The database, or a backup, has a schema that this version of Tandem does not know."""

    code = "schema_unknown"
    advice = (
        "Use the version of Tandem that created it, or a newer one; TANDEM_DATABASE_URL selects "
        "another database."
    )

    def __init__(
        self, revision: str, *, oldest: str, newest: str, subject: str = "The database"
    ) -> None:
        origin = (
            "An older version created it, whose runs this one cannot read: start with a new "
            "TANDEM_HOME"
            if revision < oldest
            else "A newer version created it, or another program"
        )
        super().__init__(
            f"{subject} is at schema revision {revision}, which this version of Tandem does not "
            f"know; it knows {oldest} to {newest}. {origin}."
        )


class BackupRefused(TandemError):
    """A backup cannot be written or restored; nothing was changed."""

    code = "backup_refused"


class JobRefused(TandemError):
    """The cluster answers, but rejects this job."""

    code = "job_refused"

    def __init__(self, submission_id: str, why: str) -> None:
        super().__init__(f"Ray rejects the job {submission_id}: {why}")


class ClusterFault(TandemError):
    """The cluster answers, but with an error that may concern this request alone."""

    code = "cluster_fault"


class TrackerRefused(TandemError):
    """The tracker answers, but rejects this request; a retry would not help."""

    code = "tracker_refused"

    def __init__(self, why: str) -> None:
        super().__init__(f"MLflow rejects it: {why}")


class Unreachable(TandemError):
    """An external system does not answer, so its state is unknown."""

    advice = "`tandem status` shows what runs; `tandem up` starts it."


class ClusterUnreachable(Unreachable):
    """Ray does not answer, or not in time."""

    code = "cluster_unreachable"


class TrackerUnreachable(Unreachable):
    """MLflow does not answer, or not in time."""

    code = "tracker_unreachable"


class DatabaseUnreachable(Unreachable):
    """The database does not answer, or dropped the connection."""

    code = "database_unreachable"
    advice = "Retry in a moment; TANDEM_DATABASE_URL says where the database is."
