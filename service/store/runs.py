"""Runs in the database."""

from collections.abc import Collection
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from configs.protocol.failure import FailureReason
from configs.protocol.records import Progress
from configs.spec.jobs import JobSpec
from service.domain.errors import LeaseLost, RunNotFound
from service.domain.repositories.runs import LeasedRun, RunFilter
from service.domain.runs import Run
from service.domain.states import ACTIVE_STATES, FINISHED_STATES, RunState
from service.store.engine import replace_nul
from service.store.tables import IdempotencyKeyRow, RunRow

_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
_ADDING = 7_410_001
"""PostgreSQL's lock of those that add runs."""

_SAME_NAME = (
    "name",
    "preset",
    "desired",
    "project",
    "priority",
    "preempted_for",
    "consecutive_failures",
    "max_step",
    "not_before",
    "queue_position",
    "attempt",
    "message",
    "waiting_for",
    "next_spool_position",
    "pending_records",
    "latest",
    "best_map",
    "best_epoch",
    "pending_outcome",
    "mlflow_run_id",
    "mlflow_synced",
    "created_at",
    "updated_at",
    "started_at",
    "finished_at",
    "last_seen_at",
    "stop_requested_at",
    "spec_digest",
    "seedless_digest",
    "seed_group_key",
    "baseline_run_id",
    "is_baseline_lost",
    "report_run_id",
    "is_report_read",
    "sweep_id",
    "trial",
    "pack_size",
    "pack_job",
)
"""Fields that a row and a run share as they are."""


class SqlRuns:
    """Implements `stored.Runs`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_inserts(self) -> None:
        """Until the end of the transaction no other one adds runs."""
        if self._session.get_bind().dialect.name == "postgresql":
            self._session.execute(select(func.pg_advisory_xact_lock(_ADDING)))

    def add(self, run: Run) -> None:
        """Store a new run after all others; after `alone`."""
        last = self._session.scalar(select(func.max(RunRow.sequence))) or 0
        row = RunRow(
            id=run.id,
            order=last + 1,
            task=run.task,
            spec=run.spec.model_dump_json(),
            tags=dict(run.spec.tags),
        )
        _fill(row, run)
        self._session.add(row)
        self._session.flush()

    def get(self, run_id: str) -> Run:
        """The run as it is; `RunNotFound` if there is none."""
        return run_from_row(self._row(run_id))

    def get_for_update(self, run_id: str, *, owner: str | None = None) -> Run:
        """The run to be changed: until the end of the transaction nobody else changes it.

        Given an `owner`, `LeaseLost` if another one looks after the run.
        """
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
        """Runs in these states that no other owner looks after: ours until `until`, oldest first.

        Rows that another transaction holds are left out: they come with the next turn.
        """
        is_free = or_(
            RunRow.lease_owner.is_(None), RunRow.lease_owner == owner, RunRow.lease_until < now
        )
        query = (
            select(RunRow)
            .where(RunRow.state.in_(states), is_free)
            .order_by(RunRow.sequence)
            .with_for_update(skip_locked=True)
        )
        claims = []
        for row in self._session.scalars(query):
            before = row.lease_owner
            row.lease_owner, row.lease_until = owner, until
            claims.append(LeasedRun(run_from_row(row), before if before != owner else None))
        self._session.flush()
        return claims

    def release(self, owner: str) -> None:
        """Give all leases of `owner` back."""
        mine = update(RunRow).where(RunRow.lease_owner == owner)
        self._session.execute(mine.values(lease_owner=None, lease_until=None))

    def save(self, run: Run) -> None:
        """Store a changed run."""
        _fill(self._row(run.id), run)
        self._session.flush()

    def page(self, which: RunFilter) -> list[Run]:
        """Newest first."""
        query = select(RunRow).order_by(RunRow.sequence.desc()).limit(which.limit)
        if which.state is not None:
            query = query.where(RunRow.state == which.state)
        if which.task is not None:
            query = query.where(RunRow.task == which.task)
        if which.project is not None:
            query = query.where(RunRow.project == which.project)
        if which.preset is not None:
            query = query.where(RunRow.preset == which.preset)
        if which.sweep is not None:
            query = query.where(RunRow.sweep_id == which.sweep)
        if which.trial is not None:
            query = query.where(RunRow.trial == which.trial)
        if which.tag is not None:
            key, value = which.tag
            query = query.where(RunRow.tags[replace_nul(key)].as_string() == value)
        if which.before is not None:
            query = query.where(RunRow.sequence < self._row(which.before).sequence)
        return [run_from_row(row) for row in self._session.scalars(query)]

    def in_states(self, *states: RunState) -> list[Run]:
        """All runs in these states, oldest first."""
        query = select(RunRow).where(RunRow.state.in_(states)).order_by(RunRow.sequence)
        return [run_from_row(row) for row in self._session.scalars(query)]

    def of_pack(self, job: str) -> list[Run]:
        """Those whose current attempt is part of a pack and not over, oldest first."""
        query = select(RunRow).where(RunRow.pack_job == job, RunRow.state.in_(ACTIVE_STATES))
        return [run_from_row(row) for row in self._session.scalars(query.order_by(RunRow.sequence))]

    def of_sweep(self, sweep_id: str, *, trials: Collection[int] | None = None) -> list[Run]:
        """A sweep's runs, oldest first; of some of its trials only, if they are given."""
        query = select(RunRow).where(RunRow.sweep_id == sweep_id).order_by(RunRow.sequence)
        if trials is not None:
            query = query.where(RunRow.trial.in_(trials))
        return [run_from_row(row) for row in self._session.scalars(query)]

    def not_synced(self) -> list[Run]:
        """Runs that are over, but not yet for MLflow, oldest first."""
        query = select(RunRow).where(
            RunRow.state.in_(FINISHED_STATES), RunRow.mlflow_synced.is_(False)
        )
        return [run_from_row(row) for row in self._session.scalars(query.order_by(RunRow.sequence))]

    def find_idempotency_key(self, key: str) -> tuple[str, str] | None:
        """Request digest and run id of an idempotency key."""
        row = self._session.get(IdempotencyKeyRow, key)
        return None if row is None else (row.request_digest, row.run_id)

    def add_idempotency_key(self, key: str, *, request_digest: str, run_id: str) -> None:
        """Bind an idempotency key to a run."""
        self._session.add(IdempotencyKeyRow(key=key, request_digest=request_digest, run_id=run_id))
        self._session.flush()

    def _row(self, run_id: str) -> RunRow:
        row = self._session.get(RunRow, run_id)
        if row is None:
            raise RunNotFound(run_id)
        return row


def _fill(row: RunRow, run: Run) -> None:
    for name in _SAME_NAME:
        setattr(row, name, getattr(run, name))
    row.state = run.state
    row.reason = run.reason
    row.progress = None if run.progress is None else run.progress.model_dump_json()


def run_from_row(row: RunRow) -> Run:
    """A run as it is stored."""
    return Run(
        id=row.id,
        spec=_SPEC.validate_json(row.spec),
        state=RunState(row.state),
        reason=None if row.reason is None else FailureReason(row.reason),
        progress=None if row.progress is None else Progress.model_validate_json(row.progress),
        **{name: getattr(row, name) for name in _SAME_NAME},
    )
