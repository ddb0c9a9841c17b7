"""Runs in the database."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from configs.protocol.failure import FailureReason
from configs.protocol.records import Progress
from configs.spec.jobs import JobSpec, get_dataset_name
from service.domain.errors import LeaseLost, RunNotFound
from service.domain.planning.references import references_of
from service.domain.repositories.runs import LeasedRun, RunFilter
from service.domain.run_fields import RUN_FIELDS, build_run, flatten_run
from service.domain.runs import Run
from service.domain.states import ACTIVE_STATES, FINISHED_STATES, RunState
from service.store.run_lists import select_run_page
from service.store.tables import RunRow

_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
_INSERT_LOCK = 7_410_001
"""The PostgreSQL advisory lock of transactions that add runs."""


class SqlRuns:
    """Implements `Runs`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_inserts(self) -> None:
        if self._session.get_bind().dialect.name == "postgresql":
            self._session.execute(select(func.pg_advisory_xact_lock(_INSERT_LOCK)))

    def add(self, run: Run) -> None:
        last = self._session.scalar(select(func.max(RunRow.sequence))) or 0
        row = RunRow(
            id=run.id,
            sequence=last + 1,
            task=run.task,
            dataset=get_dataset_name(run.spec),
            model_run_id=references_of(run.spec).run_id,
            spec=run.spec.model_dump_json(),
            tags=dict(run.spec.tags),
            **_changeable_columns(run),
        )
        self._session.add(row)
        self._session.flush()

    def get(self, run_id: str) -> Run:
        return run_from_row(self._row(run_id))

    def get_for_update(self, run_id: str, *, owner: str | None = None) -> Run:
        query = select(RunRow).where(RunRow.id == run_id).with_for_update()
        row = self._session.scalar(query.execution_options(populate_existing=True))
        if row is None:
            raise RunNotFound(run_id)
        if owner is not None and row.lease_owner not in (None, owner):
            raise LeaseLost(run_id, row.lease_owner)
        return run_from_row(row)

    def lease(
        self, *states: RunState, owner: str, now: datetime, until: datetime
    ) -> list[LeasedRun]:
        is_available = or_(
            RunRow.lease_owner.is_(None), RunRow.lease_owner == owner, RunRow.lease_until < now
        )
        query = (
            select(RunRow)
            .where(RunRow.state.in_(states), is_available)
            .order_by(RunRow.sequence)
            .with_for_update(skip_locked=True)
        )
        leased = []
        for row in self._session.scalars(query):
            previous_owner = row.lease_owner
            row.lease_owner, row.lease_until = owner, until
            other = previous_owner if previous_owner != owner else None
            leased.append(LeasedRun(run_from_row(row), other))
        self._session.flush()
        return leased

    def release(self, owner: str) -> None:
        statement = update(RunRow).where(RunRow.lease_owner == owner)
        self._session.execute(statement.values(lease_owner=None, lease_until=None))

    def save(self, run: Run) -> None:
        row = self._row(run.id)
        for name, value in _changeable_columns(run).items():
            setattr(row, name, value)
        self._session.flush()

    def page(self, run_filter: RunFilter) -> list[Run]:
        last = None if run_filter.before is None else self._row(run_filter.before)
        rows = self._session.scalars(select_run_page(run_filter, last=last))
        return [run_from_row(row) for row in rows]

    def in_states(self, *states: RunState) -> list[Run]:
        query = select(RunRow).where(RunRow.state.in_(states)).order_by(RunRow.sequence)
        return [run_from_row(row) for row in self._session.scalars(query)]

    def of_pack(self, job: str) -> list[Run]:
        query = select(RunRow).where(RunRow.pack_job == job, RunRow.state.in_(ACTIVE_STATES))
        return [run_from_row(row) for row in self._session.scalars(query.order_by(RunRow.sequence))]

    def of_sweep(self, sweep_id: str, *, trials: Collection[int] | None = None) -> list[Run]:
        query = select(RunRow).where(RunRow.sweep_id == sweep_id).order_by(RunRow.sequence)
        if trials is not None:
            query = query.where(RunRow.trial.in_(trials))
        return [run_from_row(row) for row in self._session.scalars(query)]

    def not_synced(self) -> list[Run]:
        query = select(RunRow).where(
            RunRow.state.in_(FINISHED_STATES), RunRow.mlflow_synced.is_(False)
        )
        return [run_from_row(row) for row in self._session.scalars(query.order_by(RunRow.sequence))]

    def _row(self, run_id: str) -> RunRow:
        row = self._session.get(RunRow, run_id)
        if row is None:
            raise RunNotFound(run_id)
        return row


def _changeable_columns(run: Run) -> dict[str, Any]:
    """The values of its columns by name, without those that never change."""
    columns = flatten_run(run)
    del columns["id"], columns["spec"]
    progress = run.results.progress
    return columns | {"progress": None if progress is None else progress.model_dump_json()}


def run_from_row(row: RunRow) -> Run:
    """A run as it is stored."""
    record = {name: getattr(row, name) for name in RUN_FIELDS}
    parsed = {
        "spec": _SPEC.validate_json(row.spec),
        "state": RunState(row.state),
        "reason": None if row.reason is None else FailureReason(row.reason),
        "progress": None if row.progress is None else Progress.model_validate_json(row.progress),
    }
    return build_run(record | parsed)
