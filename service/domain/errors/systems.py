"""Errors of Ray, MLflow, the database and its backups."""

from service.domain.errors.base import TandemError


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
