"""Projects in the database."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.domain.scheduling.projects import Project
from service.store.tables import ProjectRow
from service.store.writers.locks import AdvisoryLock, acquire


class SqlProjects:
    """Implements `Projects`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[Project]:
        query = select(ProjectRow).order_by(ProjectRow.name)
        return [_project_from_row(row) for row in self._session.scalars(query)]

    def get(self, name: str) -> Project:
        row = self._session.get(ProjectRow, name)
        return Project(name) if row is None else _project_from_row(row)

    def put(self, project: Project) -> None:
        # Before the session looks whether there is such a row.
        acquire(AdvisoryLock.PROJECTS, self._session.connection())
        self._session.merge(ProjectRow(**vars(project)))
        self._session.flush()


def _project_from_row(row: ProjectRow) -> Project:
    return Project(
        name=row.name,
        weight=row.weight,
        max_runs=row.max_runs,
        max_gpus=row.max_gpus,
        max_priority=row.max_priority,
    )
