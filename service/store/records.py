"""Events, metric points and registered names in the database."""

from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from configs.spec import DatasetManifest, Detector, FailureReason, Metrics
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.runs import Event
from service.domain.states import RunState
from service.domain.stored import MetricPoint
from service.store.tables import DatasetRow, EventRow, PointRow, RunRow, TeacherRow


class SqlEvents:
    """Implements `stored.Events`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, event: Event) -> None:
        """Append."""
        self._session.add(EventRow(**vars(event)))
        self._session.flush()

    def of_run(self, run_id: str) -> list[Event]:
        """In the order they happened."""
        query = select(EventRow).where(EventRow.run_id == run_id).order_by(EventRow.id)
        return [_event_from_row(row) for row in self._session.scalars(query)]

    def after(
        self, last: int, *, run_id: str | None, project: str | None, limit: int
    ) -> list[Event]:
        """Those with a larger number, of all runs, in their order."""
        query = select(EventRow).where(EventRow.id > last).order_by(EventRow.id).limit(limit)
        if run_id is not None:
            query = query.where(EventRow.run_id == run_id)
        if project is not None:
            query = query.join(RunRow, RunRow.id == EventRow.run_id)
            query = query.where(RunRow.project == project)
        return [_event_from_row(row) for row in self._session.scalars(query)]

    def last_id(self) -> int:
        """The largest number that is given; 0 before the first."""
        return self._session.scalar(select(func.max(EventRow.id))) or 0


class SqlPoints:
    """Implements `stored.Points`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, run_id: str, records: list[Metrics]) -> None:
        """Store values; one that is there already stays as it is."""
        rows = [
            {"run_id": run_id, "key": key, "step": record.step, "value": value, "at": record.at}
            for record in records
            for key, value in record.values.items()
        ]
        if rows:
            is_sqlite = self._session.get_bind().dialect.name == "sqlite"
            insert = sqlite_insert(PointRow) if is_sqlite else postgresql_insert(PointRow)
            self._session.execute(insert.on_conflict_do_nothing(), rows)

    def of_run(self, run_id: str, *, key: str | None) -> list[MetricPoint]:
        """By key, then step."""
        query = (
            select(PointRow).where(PointRow.run_id == run_id).order_by(PointRow.key, PointRow.step)
        )
        if key is not None:
            query = query.where(PointRow.key == key)
        return [
            MetricPoint(key=row.key, step=row.step, value=row.value, at=row.at)
            for row in self._session.scalars(query)
        ]


class SqlRegistry:
    """Implements `stored.Registry`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def dataset(self, name: str) -> RegisteredDataset | None:
        """The dataset with this name."""
        row = self._session.get(DatasetRow, name)
        return None if row is None else _dataset_from_row(row)

    def datasets(self) -> list[RegisteredDataset]:
        """By name."""
        query = select(DatasetRow).order_by(DatasetRow.name)
        return [_dataset_from_row(row) for row in self._session.scalars(query)]

    def put_dataset(self, dataset: RegisteredDataset) -> None:
        """Add or replace."""
        self._session.merge(
            DatasetRow(
                name=dataset.name,
                root=str(dataset.root),
                manifest=dataset.manifest.model_dump_json(),
                registered_at=dataset.registered_at,
            )
        )
        self._session.flush()

    def teacher(self, name: str) -> RegisteredTeacher | None:
        """The teacher with this name."""
        row = self._session.get(TeacherRow, name)
        return None if row is None else _teacher_from_row(row)

    def teachers(self) -> list[RegisteredTeacher]:
        """By name."""
        query = select(TeacherRow).order_by(TeacherRow.name)
        return [_teacher_from_row(row) for row in self._session.scalars(query)]

    def put_teacher(self, teacher: RegisteredTeacher) -> None:
        """Add or replace."""
        self._session.merge(
            TeacherRow(
                name=teacher.name,
                checkpoint=str(teacher.checkpoint),
                sha256=teacher.sha256,
                detector=teacher.detector.model_dump_json(),
                classes=list(teacher.classes),
                measured_map=teacher.measured_map,
                source=teacher.source,
                registered_at=teacher.registered_at,
            )
        )
        self._session.flush()


def _event_from_row(row: EventRow) -> Event:
    return Event(
        run_id=row.run_id,
        at=row.at,
        actor=row.actor,
        kind=row.kind,
        details=row.details,
        from_state=None if row.from_state is None else RunState(row.from_state),
        to_state=None if row.to_state is None else RunState(row.to_state),
        reason=None if row.reason is None else FailureReason(row.reason),
        id=row.id,
    )


def _dataset_from_row(row: DatasetRow) -> RegisteredDataset:
    return RegisteredDataset(
        name=row.name,
        root=Path(row.root),
        manifest=DatasetManifest.model_validate_json(row.manifest),
        registered_at=row.registered_at,
    )


def _teacher_from_row(row: TeacherRow) -> RegisteredTeacher:
    return RegisteredTeacher(
        name=row.name,
        checkpoint=Path(row.checkpoint),
        sha256=row.sha256,
        detector=Detector.model_validate_json(row.detector),
        classes=tuple(row.classes),
        measured_map=row.measured_map,
        source=row.source,
        registered_at=row.registered_at,
    )
