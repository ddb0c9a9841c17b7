"""Datasets and teachers in the database."""

import json
from pathlib import Path
from typing import Literal

from sqlalchemy import RowMapping, bindparam, literal, select
from sqlalchemy.orm import Session

from configs.spec.dataset import DatasetManifest
from configs.spec.detector import Detector
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.states import FINISHED_STATES, RunState
from service.domain.sweeps import UNFINISHED_SWEEP_STATES
from service.store.tables import DatasetRow, RunRow, SweepRow, TeacherRow, get_table
from service.store.writers.locks import AdvisoryLock, acquire

_DATASETS, _TEACHERS = get_table(DatasetRow), get_table(TeacherRow)
# Built once, because each launch executes them.
_DATASET = select(_DATASETS).where(_DATASETS.c.name == bindparam("name"))
_TEACHER = select(_TEACHERS).where(_TEACHERS.c.name == bindparam("name"))
_BOTH = select(_DATASETS, _TEACHERS).select_from(
    select(literal(1).label("number"))
    .subquery()
    .outerjoin(_DATASETS, _DATASETS.c.name == bindparam("dataset"))
    .outerjoin(_TEACHERS, _TEACHERS.c.name == bindparam("teacher"))
)


class SqlRegistry:
    """Implements `Registry`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_inserts(self) -> None:
        acquire(AdvisoryLock.REGISTRY, self._session.connection())

    def dataset(self, name: str) -> RegisteredDataset | None:
        rows = self._session.connection().execute(_DATASET, {"name": name}).mappings()
        return _dataset_from_row(rows.one_or_none())

    def datasets(self) -> list[RegisteredDataset]:
        query = select(_DATASETS).order_by(_DATASETS.c.name)
        rows = self._session.connection().execute(query).mappings()
        return [item for row in rows if (item := _dataset_from_row(row)) is not None]

    def put_dataset(self, dataset: RegisteredDataset) -> None:
        self._session.merge(
            DatasetRow(
                name=dataset.name,
                root=str(dataset.root),
                manifest=dataset.manifest.model_dump_json(),
                project=dataset.project,
                registered_at=dataset.registered_at,
            )
        )
        self._session.flush()

    def teacher(self, name: str) -> RegisteredTeacher | None:
        rows = self._session.connection().execute(_TEACHER, {"name": name}).mappings()
        return _teacher_from_row(rows.one_or_none())

    def teachers(self) -> list[RegisteredTeacher]:
        query = select(_TEACHERS).order_by(_TEACHERS.c.name)
        rows = self._session.connection().execute(query).mappings()
        return [item for row in rows if (item := _teacher_from_row(row)) is not None]

    def has_unfinished_users(
        self, kind: Literal["dataset", "teacher"], name: str, *, outside: str
    ) -> bool:
        reference = json.dumps({"name": name}, separators=(",", ":"))
        fields = ("dataset",) if kind == "dataset" else ("teacher", "model")
        return any(
            self._session.scalar(
                select(row.id)
                .where(
                    row.state.in_(unfinished_states),
                    row.project != outside,
                    row.spec.contains(f'"{field}":{reference}', autoescape=True),
                )
                .limit(1)
            )
            for row, unfinished_states in (
                (RunRow, frozenset(RunState) - FINISHED_STATES),
                (SweepRow, UNFINISHED_SWEEP_STATES),
            )
            for field in fields
        )

    def find(
        self, *, dataset: str | None, teacher: str | None
    ) -> tuple[RegisteredDataset | None, RegisteredTeacher | None]:
        names = {"dataset": dataset, "teacher": teacher}
        row = self._session.connection().execute(_BOTH, names).mappings().one()
        return _dataset_from_row(row), _teacher_from_row(row)

    def put_teacher(self, teacher: RegisteredTeacher) -> None:
        self._session.merge(
            TeacherRow(
                name=teacher.name,
                checkpoint=str(teacher.checkpoint),
                sha256=teacher.sha256,
                detector=teacher.detector.model_dump_json(),
                classes=list(teacher.classes),
                measured_map=teacher.measured_map,
                source=teacher.source,
                project=teacher.project,
                registered_at=teacher.registered_at,
            )
        )
        self._session.flush()


def _dataset_from_row(row: RowMapping | None) -> RegisteredDataset | None:
    """The dataset in a row by its columns; None without a row, or without one in it."""
    column = _DATASETS.c
    if row is None or row[column.name] is None:
        return None
    return RegisteredDataset(
        name=row[column.name],
        root=Path(row[column.root]),
        manifest=DatasetManifest.model_validate_json(row[column.manifest]),
        registered_at=row[column.registered_at],
        project=row[column.project],
    )


def _teacher_from_row(row: RowMapping | None) -> RegisteredTeacher | None:
    """The teacher in a row by its columns; None without a row, or without one in it."""
    column = _TEACHERS.c
    if row is None or row[column.name] is None:
        return None
    return RegisteredTeacher(
        name=row[column.name],
        checkpoint=Path(row[column.checkpoint]),
        sha256=row[column.sha256],
        detector=Detector.model_validate_json(row[column.detector]),
        classes=tuple(row[column.classes]),
        measured_map=row[column.measured_map],
        source=row[column.source],
        registered_at=row[column.registered_at],
        project=row[column.project],
    )
