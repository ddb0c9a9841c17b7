"""Attempts in the database."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from configs.protocol.failure import FailureReason
from service.domain.ids import split_ids
from service.domain.repositories.runs import NewestAttempt
from service.domain.runs import Attempt
from service.domain.states import ACTIVE_STATES, RunState, is_over
from service.store.engine import MAX_IDS
from service.store.tables import AttemptRow, RunRow
from service.store.totals import record_attempt_end


class SqlAttempts:
    """Implements `Attempts`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, attempt: Attempt) -> None:
        self._session.add(AttemptRow(**vars(attempt)))
        self._session.flush()
        if attempt.ended_at is not None:
            record_attempt_end(self._session, attempt.run_id, attempt.number)

    def save(self, attempt: Attempt) -> None:
        row = self._session.get(AttemptRow, (attempt.run_id, attempt.number))
        has_ended = attempt.ended_at is not None and (row is None or row.ended_at is None)
        self._session.merge(AttemptRow(**vars(attempt)))
        self._session.flush()
        if has_ended:
            record_attempt_end(self._session, attempt.run_id, attempt.number)

    def get(self, run_id: str, number: int) -> Attempt | None:
        row = self._session.get(AttemptRow, (run_id, number))
        return None if row is None else _attempt_from_row(row)

    def of_run(self, run_id: str, *, after: int = 0, limit: int | None = None) -> list[Attempt]:
        query = (
            select(AttemptRow)
            .where(AttemptRow.run_id == run_id, AttemptRow.number > after)
            .order_by(AttemptRow.number)
            .limit(limit)
        )
        return [_attempt_from_row(row) for row in self._session.scalars(query)]

    def newest_of_runs(self, run_ids: Collection[str]) -> dict[str, NewestAttempt]:
        query = select(RunRow.id, RunRow.attempt, RunRow.state)
        return {
            run_id: NewestAttempt(number, is_over(RunState(state)))
            for batch in split_ids(run_ids, size=MAX_IDS)
            for run_id, number, state in self._session.execute(query.where(RunRow.id.in_(batch)))
        }

    def of_runs(self, run_ids: Collection[str]) -> dict[str, list[Attempt]]:
        query = (
            select(AttemptRow)
            .where(AttemptRow.run_id.in_(run_ids))
            .order_by(AttemptRow.run_id, AttemptRow.number)
        )
        attempts: dict[str, list[Attempt]] = {}
        for row in self._session.scalars(query):
            attempts.setdefault(row.run_id, []).append(_attempt_from_row(row))
        return attempts

    def of_sweep(self, sweep_id: str) -> list[Attempt]:
        query = (
            select(AttemptRow)
            .join(RunRow, RunRow.id == AttemptRow.run_id)
            .where(RunRow.sweep_id == sweep_id)
        )
        return [_attempt_from_row(row) for row in self._session.scalars(query)]

    def by_submission(self, submission_id: str) -> Attempt | None:
        query = select(AttemptRow).where(AttemptRow.submission_id == submission_id)
        row = self._session.scalar(query)
        return None if row is None else _attempt_from_row(row)

    def of_pack(self, job: str) -> list[Attempt]:
        query = select(AttemptRow).where(AttemptRow.pack_job == job)
        return [_attempt_from_row(row) for row in self._session.scalars(query)]

    def current(self) -> dict[str, Attempt]:
        query = (
            select(AttemptRow)
            .join(RunRow, (RunRow.id == AttemptRow.run_id) & (RunRow.attempt == AttemptRow.number))
            .where(RunRow.state.in_(ACTIVE_STATES))
        )
        return {row.run_id: _attempt_from_row(row) for row in self._session.scalars(query)}

    def ended_since(self, moment: datetime) -> list[Attempt]:
        query = (
            select(AttemptRow)
            .where(AttemptRow.ended_at >= moment)
            .order_by(AttemptRow.ended_at, AttemptRow.run_id)
        )
        return [_attempt_from_row(row) for row in self._session.scalars(query)]


def _attempt_from_row(row: AttemptRow) -> Attempt:
    return Attempt(
        run_id=row.run_id,
        number=row.number,
        submission_id=row.submission_id,
        created_at=row.created_at,
        processes=row.processes,
        num_cpus=row.num_cpus,
        num_gpus=row.num_gpus,
        pack_job=row.pack_job,
        ended_at=row.ended_at,
        host=row.host,
        node_id=row.node_id,
        device=row.device,
        resumed_from_epoch=row.resumed_from_epoch,
        exit_code=row.exit_code,
        reason=None if row.reason is None else FailureReason(row.reason),
        message=row.message,
    )
