"""Deletion of old rows in the database."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, func, inspect, or_, select, tuple_, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.domain.autopilot.autopilots import UNFINISHED_PHASES
from service.domain.retention import FinishedRun, RunRows
from service.domain.states import FINISHED_STATES, RunState
from service.domain.sweeps import FINISHED_SWEEP_STATES
from service.store.autopilots.tables import AutopilotJobRow, AutopilotRow
from service.store.tables import (
    AuditRow,
    Base,
    EventRow,
    IdempotencyKeyRow,
    MetricPointRow,
    RunRow,
    SweepRow,
    TeacherRow,
    TokenRow,
)

_ROWS: Final[dict[RunRows, tuple[type[Base], InstrumentedAttribute[str]]]] = {
    "events": (EventRow, EventRow.run_id),
    "metric_values": (MetricPointRow, MetricPointRow.run_id),
    "idempotency_keys": (IdempotencyKeyRow, IdempotencyKeyRow.resource_id),
}
"""The table of each kind of rows, and its column with the run."""


class SqlRetention:
    """Implements `Retention`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def finished_runs(
        self, *, before: datetime, after: tuple[datetime, str] | None, limit: int
    ) -> list[FinishedRun]:
        row = RunRow
        query = select(row.id, row.project, row.state, row.finished_at, row.mlflow_synced).where(
            row.finished_at < before,
            (row.state + "").in_(FINISHED_STATES),  # not through its index, but in order of time
        )
        if after is not None:
            finished_at, run_id = after
            is_as_old = and_(row.finished_at == finished_at, row.id > run_id)
            query = query.where(row.finished_at >= finished_at)
            query = query.where(or_(row.finished_at > finished_at, is_as_old))
        query = query.order_by(row.finished_at, row.id).limit(limit)
        return [
            FinishedRun(run_id, project, RunState(state), finished_at, is_synced)
            for run_id, project, state, finished_at, is_synced in self._session.execute(query)
            if finished_at is not None
        ]

    def find_referenced(self, run_ids: Collection[str]) -> set[str]:
        row = RunRow
        columns = (row.model_run_id, row.baseline_run_id, row.report_run_id)
        queries = [
            *(select(column).where(column.in_(run_ids)) for column in columns),
            select(row.id).where(row.id.in_(run_ids), row.report_run_id.is_not(None)),
            select(SweepRow.report_run_id).where(SweepRow.report_run_id.in_(run_ids)),
            select(row.id)
            .join(SweepRow, SweepRow.id == row.sweep_id)
            .where(row.id.in_(run_ids), SweepRow.state.not_in(FINISHED_SWEEP_STATES)),
            select(AutopilotJobRow.run_id)
            .join(AutopilotRow, AutopilotRow.id == AutopilotJobRow.autopilot_id)
            .where(AutopilotJobRow.run_id.in_(run_ids), AutopilotRow.phase.in_(UNFINISHED_PHASES)),
        ]
        referenced = {
            run_id for query in queries for run_id in self._session.scalars(query) if run_id
        }
        files = self._session.scalars(select(TeacherRow.checkpoint)).all()
        parts = {part for file in files for part in file.split("/")}
        return referenced | (set(run_ids) & parts)

    def sweeps_of(self, run_ids: Collection[str]) -> dict[str, tuple[str, int]]:
        query = select(RunRow.id, RunRow.sweep_id, RunRow.trial).where(
            RunRow.id.in_(run_ids), RunRow.sweep_id.is_not(None), RunRow.trial.is_not(None)
        )
        return {
            run_id: (sweep_id, trial)
            for run_id, sweep_id, trial in self._session.execute(query)
            if sweep_id is not None and trial is not None
        }

    def count(self, rows: RunRows, run_ids: Collection[str]) -> int:
        table, _ = _ROWS[rows]
        query = select(func.count()).select_from(table).where(_are_of(rows, run_ids))
        return self._session.scalar(query) or 0

    def delete(self, rows: RunRows, run_ids: Collection[str], *, limit: int) -> int:
        table, _ = _ROWS[rows]
        return self._delete_oldest(table, _are_of(rows, run_ids), limit=limit)

    def mark_files_deleted(self, run_ids: Collection[str], *, at: datetime) -> None:
        statement = update(RunRow).where(RunRow.id.in_(run_ids)).values(files_deleted_at=at)
        self._session.execute(statement)

    def has_deleted_files(self, run_id: str) -> bool:
        query = select(RunRow.files_deleted_at).where(RunRow.id == run_id)
        return self._session.scalar(query) is not None

    def prune_sweep_keys(self, before: datetime, *, is_dry_run: bool) -> int:
        ids = select(SweepRow.id).where(
            SweepRow.finished_at < before, SweepRow.state.in_(FINISHED_SWEEP_STATES)
        )
        are_old = IdempotencyKeyRow.resource_id.in_(ids)
        return self._prune(IdempotencyKeyRow, are_old, is_dry_run=is_dry_run)

    def prune_tokens(self, before: datetime, *, is_dry_run: bool) -> int:
        are_invalid = or_(TokenRow.revoked_at < before, TokenRow.expires_at < before)
        return self._prune(TokenRow, are_invalid, is_dry_run=is_dry_run)

    def prune_audit(self, before: datetime, *, limit: int | None) -> int:
        # SQLite gives the number of the newest row, if that is deleted, to the next one.
        newest = select(func.max(AuditRow.id)).scalar_subquery()
        are_old = and_(AuditRow.at < before, AuditRow.id < newest)
        if limit is None:
            return self._prune(AuditRow, are_old, is_dry_run=True)
        return self._delete_oldest(AuditRow, are_old, limit=limit)

    def _prune(self, table: type[Base], condition: ColumnElement[bool], *, is_dry_run: bool) -> int:
        if is_dry_run:
            query = select(func.count()).select_from(table).where(condition)
            return self._session.scalar(query) or 0
        return _count_deleted(self._session.execute(delete(table).where(condition)))

    def _delete_oldest(
        self, table: type[Base], condition: ColumnElement[bool], *, limit: int
    ) -> int:
        key = inspect(table).primary_key
        oldest = select(*key).where(condition).order_by(*key).limit(limit)
        return _count_deleted(self._session.execute(delete(table).where(tuple_(*key).in_(oldest))))


def _are_of(rows: RunRows, run_ids: Collection[str]) -> ColumnElement[bool]:
    condition = _ROWS[rows][1].in_(run_ids)
    if rows != "events":
        return condition
    # SQLite gives the number of the newest event, if that is deleted, to the next one.
    return and_(condition, EventRow.id < select(func.max(EventRow.id)).scalar_subquery())


def _count_deleted(result: Any) -> int:
    assert isinstance(result, CursorResult)
    return result.rowcount
