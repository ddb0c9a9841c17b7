"""What can be wrong with a request, as one tree; `code` is what programs read.

TandemError
├── NotFound                 run_not_found, dataset_not_found, teacher_not_found, preset_not_found,
│                            checkpoint_missing, dependency_failed, token_not_found,
│                            sweep_not_found, report_not_found
├── NotLetIn                 unauthenticated
├── NotAllowed
│   ├── RoleTooSmall         insufficient_role
│   └── OtherProject         project_forbidden
├── TokenRefused             token_refused
├── SpecRefused              spec_refused: the spec cannot be, or cannot run here
├── EntryRefused             sweep_entry_refused: what a driver may not write
├── Conflict
│   ├── IllegalMove          illegal_move, and of a sweep illegal_sweep_move
│   ├── SweepLogMoved        sweep_log_conflict; for a driver of old driver_superseded
│   ├── NothingToPromote     nothing_to_promote; in domain.twins nothing_to_repeat
│   ├── AttemptSuperseded    attempt_superseded
│   ├── LeaseLost            lease_lost
│   ├── KeyReused            idempotency_key_reused
│   └── NameTaken            name_taken
├── PathRefused              path_refused
├── PieceTooLarge            log_chunk_too_large
├── ValueRefused             value_refused
├── SchemaUnknown            schema_unknown
├── BackupRefused            backup_refused
├── JobRefused               job_refused
├── TrackerRefused           tracker_refused
└── Unreachable              cluster_unreachable, tracker_unreachable, database_unreachable
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """One field that is wrong: as people write it, why, and what to do."""

    field: str
    code: str
    message: str


class TandemError(Exception):
    """Everything a caller can be told."""

    code: ClassVar[str] = "error"
    advice: ClassVar[str | None] = None
    field_errors: tuple[FieldError, ...] = ()


class NotFound(TandemError):
    """Something that a request names does not exist."""


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
    """There are no pages about a run or a sweep, or not yet."""

    code = "report_not_found"

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(f"There is no report of {what}. {hint}")


class DatasetNotFound(NotFound):
    """No dataset has this name."""

    code = "dataset_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"No dataset is called {name!r}. `tandem data list` shows those there are."
        )


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
        self.faults = (FieldError("preset", self.code, message),)


class DependencyFailed(NotFound):
    """The run that was to train a teacher or a model did not."""

    code = "dependency_failed"

    def __init__(self, what: str, run_id: str, state: str) -> None:
        super().__init__(
            f"Its {what}, run {run_id}, is {state}. Mend that run with `tandem retry {run_id}`, "
            "then retry this one."
        )


class CheckpointMissing(NotFound):
    """A run has succeeded, but its checkpoint is not in its folder."""

    code = "checkpoint_missing"

    def __init__(self, what: str, run_id: str, file: str) -> None:
        super().__init__(f"Its {what}, run {run_id}, has no {file} in its folder any more.")


class TokenNotFound(NotFound):
    """No token has this id."""

    code = "token_not_found"

    def __init__(self, token_id: str) -> None:
        super().__init__(f"There is no token {token_id}. `tandem token list` shows them.")


class Unauthenticated(TandemError):
    """No token, or none that opens anything; why is nobody's business."""

    code = "unauthenticated"
    advice = (
        "Show a token that is good, as `Authorization: Bearer ...`; an admin makes one with "
        "`tandem token create`."
    )

    def __init__(self) -> None:
        super().__init__("This service wants a token, and what was shown is not a good one.")


class Forbidden(TandemError):
    """The caller is known, but may not do this."""


class InsufficientRole(Forbidden):
    """The caller's role does not reach."""

    code = "insufficient_role"

    def __init__(self, role: str, least: str, *, project: str | None = None) -> None:
        of_all = " of all projects" if role == least and project is not None else ""
        super().__init__(f"This needs the role {least}{of_all}, and your token's is {role}.")


class ProjectForbidden(Forbidden):
    """The caller's token is for another project."""

    code = "project_forbidden"

    def __init__(self, asked: str, own: str) -> None:
        super().__init__(f"Your token is for project {own!r}, not for {asked!r}.")


class TokenRefused(TandemError):
    """A token that nobody could use, or that would open more than it says."""

    code = "token_refused"

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.faults = (FieldError(field, self.code, why),)


class SpecRefused(TandemError):
    """The spec is not valid, or cannot run here; every fault at once."""

    code = "spec_refused"
    advice = (
        "Nothing was created; correct the fields and ask again. POST /v1/runs:plan is the dry run."
    )

    def __init__(self, field_errors: Sequence[FieldError]) -> None:
        super().__init__(
            "; ".join(f"{f.field}: {f.message}" if f.field else f.message for f in field_errors)
        )
        self.faults = tuple(field_errors)


class EntryRefused(TandemError):
    """An entry that a driver may not write, or not now."""

    code = "sweep_entry_refused"

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"entries.{number}: {why}")
        self.faults = (FieldError(f"entries.{number}", self.code, why),)


class Conflict(TandemError):
    """The request does not fit the state of things."""


class InvalidTransition(Conflict):
    """A run cannot go from its state to the one that is asked for."""

    code = "illegal_move"

    def __init__(self, run_id: str, from_state: str, to_state: str) -> None:
        super().__init__(f"Run {run_id} is {from_state} and cannot become {to_state}.")


class InvalidSweepTransition(Conflict):
    """A sweep cannot go from its state to the one that is asked for."""

    code = "illegal_sweep_move"

    def __init__(self, sweep_id: str, from_state: str, to_state: str) -> None:
        super().__init__(f"Sweep {sweep_id} is {from_state} and cannot become {to_state}.")


class SweepLogConflict(Conflict):
    """Somebody else has written into a sweep's list, or there would be a gap."""

    code = "sweep_log_conflict"
    advice = "Read the list again and go on from its end."

    def __init__(self, sweep_id: str, first: int, length: int) -> None:
        super().__init__(
            f"Entries from {first} on do not fit: the list of sweep {sweep_id} has {length}."
        )


class DriverSuperseded(Conflict):
    """Another driver has taken over."""

    code = "driver_superseded"

    def __init__(self, sweep_id: str, number: int, current: int) -> None:
        super().__init__(f"Driver {number} of sweep {sweep_id} is over; {current} drives it now.")


class NothingToPromote(Conflict):
    """A sweep has no trial that could be trained as a run of its own."""

    code = "nothing_to_promote"

    def __init__(self, sweep_id: str, why: str) -> None:
        super().__init__(f"Sweep {sweep_id}: {why}")


class AttemptSuperseded(Conflict):
    """Records of an attempt that is not the current one are refused."""

    code = "attempt_superseded"

    def __init__(self, run_id: str, number: int, current: int) -> None:
        super().__init__(f"Attempt {number} of run {run_id} is over; the current one is {current}.")


class LeaseLost(Conflict):
    """Another service process looks after the run now."""

    code = "lease_lost"

    def __init__(self, run_id: str, owner: str | None) -> None:
        super().__init__(f"Run {run_id} is looked after by {owner} now.")


class IdempotencyKeyReused(Conflict):
    """An idempotency key came again with another request."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The idempotency key {key!r} was used for another request; choose a new one."
        )


class NameTaken(Conflict):
    """A name is in use for something else."""

    code = "name_taken"

    def __init__(self, what: str, name: str) -> None:
        super().__init__(
            f"A {what} called {name!r} is registered already and is another one. "
            "Choose another name, or say replace: true."
        )


class PathRefused(TandemError):
    """A path does not exist or lies outside of the allowed folders."""

    code = "path_refused"

    def __init__(self, field: str, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.faults = (FieldError(field, self.code, f"{path}: {why}"),)


class LogChunkTooLarge(TandemError):
    """A piece of a log is longer than one may be."""

    code = "log_chunk_too_large"

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"A piece of a log may have {most_bytes} bytes; send it in several.")


class ValueRefused(TandemError):
    """A value is larger or longer than the database has room for."""

    code = "value_refused"

    def __init__(self, why: str) -> None:
        super().__init__(f"The database does not take a value: {why}. Nothing was changed.")


class SchemaUnknown(TandemError):
    """The database, or a backup, has a schema that this Tandem does not know."""

    code = "schema_unknown"
    advice = (
        "Use the Tandem that made it, or a newer one; TANDEM_DATABASE_URL chooses another database."
    )

    def __init__(
        self, revision: str, *, oldest: str, newest: str, what: str = "The database"
    ) -> None:
        origin = (
            "An older Tandem made it, whose runs this one cannot read: start with a new TANDEM_HOME"
            if revision < oldest
            else "A newer Tandem made it, or another program"
        )
        super().__init__(
            f"{what} is at schema revision {revision}, which this Tandem does not know; it knows "
            f"{oldest} to {newest}. {origin}."
        )


class BackupRefused(TandemError):
    """A backup cannot be written or put back; nothing was changed."""

    code = "backup_refused"


class JobRefused(TandemError):
    """The cluster answers, but does not take this job."""

    code = "job_refused"

    def __init__(self, submission_id: str, why: str) -> None:
        super().__init__(f"Ray does not take the job {submission_id}: {why}")


class TrackerRefused(TandemError):
    """The tracker answers, but does not take this; asking again would change nothing."""

    code = "tracker_refused"

    def __init__(self, why: str) -> None:
        super().__init__(f"MLflow does not take it: {why}")


class Unreachable(TandemError):
    """An outside system does not answer; nothing is known about it."""

    advice = "`tandem status` shows what runs; `tandem up` starts it."


class ClusterUnreachable(Unreachable):
    """Ray does not answer."""

    code = "cluster_unreachable"


class TrackerUnreachable(Unreachable):
    """MLflow does not answer."""

    code = "tracker_unreachable"


class DatabaseUnreachable(Unreachable):
    """The database does not answer, or dropped the connection."""

    code = "database_unreachable"
    advice = "Ask again in a moment; TANDEM_DATABASE_URL says where the database is."
