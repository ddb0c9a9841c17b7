"""Errors of requests: what they name, who sends them, and what they contain."""

from collections.abc import Sequence
from pathlib import Path

from service.domain.errors.base import FieldError, TandemError


class NotFound(TandemError):
    """A request names something that does not exist."""


class RunNotFound(NotFound):
    """No run has this id."""

    code = "run_not_found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id}. `tandem runs` lists them.")


class AttemptNotFound(NotFound):
    """A run has no attempt with this number."""

    code = "attempt_not_found"

    def __init__(self, run_id: str, number: int) -> None:
        super().__init__(f"Run {run_id} has no attempt {number}.")


class SweepNotFound(NotFound):
    """No sweep has this id."""

    code = "sweep_not_found"

    def __init__(self, sweep_id: str) -> None:
        super().__init__(f"There is no sweep {sweep_id}. `tandem sweeps` lists them.")


class AutopilotNotFound(NotFound):
    """No autopilot has this id."""

    code = "autopilot_not_found"

    def __init__(self, autopilot_id: str) -> None:
        super().__init__(f"There is no autopilot {autopilot_id}. `tandem autopilots` lists them.")


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


class StatisticsNotFound(NotFound):
    """A dataset was imported before statistics existed, or its statistics describe other data."""

    code = "statistics_not_found"

    def __init__(self, name: str, *, root: Path) -> None:
        super().__init__(
            f"The dataset {name!r} has no statistics yet. `tandem data show {name}` computes them, "
            f"or `tandem-worker data show {root}` on a machine with its images."
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


class FileTooLarge(TandemError):
    """A file that a worker wrote has more bytes than the service reads."""

    code = "file_too_large"

    def __init__(self, path: Path, *, size_bytes: int, max_bytes: int) -> None:
        super().__init__(
            f"{path.name} has {size_bytes} bytes; the service reads at most {max_bytes} bytes of "
            "such a file."
        )


class ValueRefused(TandemError):
    """A value is too large or too long for its column in the database."""

    code = "value_refused"

    def __init__(self, why: str) -> None:
        super().__init__(f"The database rejects a value: {why}. Nothing was changed.")
