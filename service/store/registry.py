"""Datasets and teachers in the database."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from sqlalchemy import Row, Table, bindparam, literal, select
from sqlalchemy.orm import Session

from configs.spec.dataset import DatasetManifest
from configs.spec.detector import Detector
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.states import FINISHED_STATES, RunState
from service.domain.sweeps import UNFINISHED_SWEEP_STATES
from service.store.tables import DatasetRow, RunRow, SweepRow, TeacherRow, get_table
from service.store.writers.locks import InsertLock, lock_inserts

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
        lock_inserts(self._session, InsertLock.REGISTRY)

    def dataset(self, name: str) -> RegisteredDataset | None:
        row = self._session.connection().execute(_DATASET, {"name": name}).one_or_none()
        return None if row is None else _dataset_from_row(row)

    def datasets(self) -> list[RegisteredDataset]:
        query = select(DatasetRow).order_by(DatasetRow.name)
        return [_dataset_from_row(row) for row in self._session.scalars(query)]

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
        row = self._session.connection().execute(_TEACHER, {"name": name}).one_or_none()
        return None if row is None else _teacher_from_row(row)

    def teachers(self) -> list[RegisteredTeacher]:
        query = select(TeacherRow).order_by(TeacherRow.name)
        return [_teacher_from_row(row) for row in self._session.scalars(query)]

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
        values = self._session.connection().execute(_BOTH, names).one()
        dataset_row = _name_values(_DATASETS, values[: len(_DATASETS.c)])
        teacher_row = _name_values(_TEACHERS, values[len(_DATASETS.c) :])
        return (
            None if dataset_row.name is None else _dataset_from_row(dataset_row),
            None if teacher_row.name is None else _teacher_from_row(teacher_row),
        )

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


def _name_values(table: Table, values: Sequence[Any]) -> SimpleNamespace:
    return SimpleNamespace(**dict(zip(table.c.keys(), values, strict=True)))


def _dataset_from_row(row: DatasetRow | Row[Any] | SimpleNamespace) -> RegisteredDataset:
    return RegisteredDataset(
        name=row.name,
        root=Path(row.root),
        manifest=DatasetManifest.model_validate_json(row.manifest),
        registered_at=row.registered_at,
        project=row.project,
    )


def _teacher_from_row(row: TeacherRow | Row[Any] | SimpleNamespace) -> RegisteredTeacher:
    return RegisteredTeacher(
        name=row.name,
        checkpoint=Path(row.checkpoint),
        sha256=row.sha256,
        detector=Detector.model_validate_json(row.detector),
        classes=tuple(row.classes),
        measured_map=row.measured_map,
        source=row.source,
        registered_at=row.registered_at,
        project=row.project,
    )
