"""Runs in the database."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, true, update
from sqlalchemy.orm import Session

from configs.metric_keys import Metric
from configs.protocol.failure import FailureReason
from configs.protocol.records import Progress
from configs.spec.jobs import JobSpec, get_dataset_name
from service.domain.errors.conflicts import LeaseLost
from service.domain.errors.requests import RunNotFound
from service.domain.planning.references import references_of
from service.domain.repositories.runs import QueueState, RunFilter, RunLease
from service.domain.run_fields import RUN_FIELDS, build_run_from_values, flatten_run
from service.domain.runs import Run
from service.domain.states import ACTIVE_STATES, FINISHED_STATES, RunState
from service.store.pages import select_run_page
from service.store.tables import SELECT_RUNS, RunRow, RunTagRow, get_table
from service.store.totals import record_run_state
from service.store.writers.baseline_memo import BaselineMemo
from service.store.writers.locks import AdvisoryLock, acquire
from service.store.writers.new_rows import BatchingSession, BulkInsert

_SPEC: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)
_MAX_PARSED_SPECS: Final = 2048
_NEW_COLUMNS = ("sequence", "task", "dataset", "model_run_id", "teacher_map", "comparison_revision")
"""The columns of a new run besides its fields."""

_ADD_RUNS = BulkInsert(RunRow, (*RUN_FIELDS, *_NEW_COLUMNS))
_ADD_TAGS = BulkInsert(RunTagRow, get_table(RunTagRow).columns.keys())
_LAST_SEQUENCE = select(func.max(get_table(RunRow).c.sequence))


class SqlRuns:
    """Implements `Runs`."""

    def __init__(self, session: BatchingSession, baselines: BaselineMemo) -> None:
        self._session = session
        self._baselines = baselines
        self._last_sequence: int | None = None
        """Of all runs, after `lock_inserts` and the first `add`."""

    def lock_inserts(self) -> None:
        if self._baselines.is_complete:
            return
        acquire(AdvisoryLock.RUNS, self._session.connection())
        self._baselines.is_complete = True

    def add(self, *runs: Run) -> None:
        last = self._last_sequence
        if last is None or not self._baselines.is_complete:
            last = self._session.connection().execute(_LAST_SEQUENCE).scalar() or 0
        self._last_sequence = last + len(runs)
        if not runs:
            return
        rows = [_new_row(run, sequence=last + index) for index, run in enumerate(runs, start=1)]
        self._session.insert_later(_ADD_RUNS, rows)
        tags = [
            tag
            for run, row in zip(runs, rows, strict=True)
            for tag in _new_tag_rows(run, sequence=row["sequence"])
        ]
        self._session.insert_later(_ADD_TAGS, tags)
        for run in runs:
            self._baselines.forget_missing(run.lineage.spec_digest, project=run.project)
            record_run_state(self._session, project=run.project, old=None, new=run.state)

    def get(self, run_id: str) -> Run:
        return _run_from_row(self._row(run_id))

    def get_for_update(self, run_id: str, *, owner: str | None = None) -> Run:
        query = select(RunRow).where(RunRow.id == run_id).with_for_update()
        row = self._session.scalar(query.execution_options(populate_existing=True))
        if row is None:
            raise RunNotFound(run_id)
        if owner is not None and row.lease_owner not in (None, owner):
            raise LeaseLost(run_id, row.lease_owner)
        return _run_from_row(row)

    def lease(
        self, *states: RunState, owner: str, now: datetime, until: datetime, limit: int
    ) -> list[RunLease]:
        is_owner = RunRow.lease_owner == owner
        is_due = or_(
            RunRow.lease_owner.is_(None),
            and_(is_owner, RunRow.lease_until < now + (until - now) / 2),
            and_(~is_owner, RunRow.lease_until < now),
        )
        query = (
            select(RunRow.id, RunRow.lease_owner)
            .where(RunRow.state.in_(states), is_due)
            .order_by(RunRow.sequence)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        leases = [
            RunLease(run_id, previous if previous != owner else None)
            for run_id, previous in self._session.execute(query)
        ]
        changes = {"lease_owner": owner, "lease_until": until}
        self._update([{"id": lease.run_id} | changes for lease in leases])
        return leases

    def leased_by(self, owner: str, *states: RunState) -> list[Run]:
        return self._read(RunRow.state.in_(states), RunRow.lease_owner == owner)

    def release(self, owner: str) -> None:
        query = (
            select(RunRow.id)
            .where(RunRow.state.in_(ACTIVE_STATES), RunRow.lease_owner == owner)
            .order_by(RunRow.id)
        )
        ids = self._session.scalars(query.with_for_update())
        self._update([{"id": run_id, "lease_owner": None, "lease_until": None} for run_id in ids])

    def save(self, run: Run) -> None:
        self._baselines.clear()
        row = self._row(run.id)
        if row.state != run.state:
            record_run_state(self._session, project=run.project, old=row.state, new=run.state)
        if row.best_map != run.results.best_map:
            tags = update(RunTagRow).where(RunTagRow.run_id == run.id)
            self._session.execute(tags.values(best_map=run.results.best_map))
        if _affects_comparisons(row, run):
            row.comparison_revision = _new_revision()
        if run.state not in ACTIVE_STATES:
            row.lease_owner = row.lease_until = None
        for name, value in _changeable_columns(run).items():
            setattr(row, name, value)
        self._session.flush()

    def page(self, run_filter: RunFilter) -> list[Run]:
        last = None if run_filter.before is None else self._row(run_filter.before)
        return read_runs(self._session, select_run_page(run_filter, last=last))

    def page_by_id(self, *, after: str, limit: int) -> list[Run]:
        query = SELECT_RUNS.where(RunRow.id > after).order_by(RunRow.id).limit(limit)
        return read_runs(self._session, query)

    def find_existing(self, run_ids: Collection[str]) -> set[str]:
        return set(self._session.scalars(select(RunRow.id).where(RunRow.id.in_(run_ids))))

    def in_states(self, *states: RunState) -> list[Run]:
        return self._read(RunRow.state.in_(states))

    def running_in_mlflow(self) -> dict[str, str]:
        query = select(RunRow.id, RunRow.mlflow_run_id).where(
            RunRow.state == RunState.RUNNING, RunRow.mlflow_run_id.is_not(None)
        )
        rows = self._session.execute(query)
        return {run_id: mlflow_run_id for run_id, mlflow_run_id in rows if mlflow_run_id}

    def queue_states(self) -> list[QueueState]:
        query = select(
            RunRow.id,
            RunRow.updated_at,
            RunRow.attempt,
            RunRow.not_before,
            RunRow.priority,
            RunRow.waiting_for,
        ).where(RunRow.state == RunState.QUEUED)
        rows = self._session.connection().execute(query.order_by(RunRow.sequence))
        return [QueueState(*row) for row in rows]

    def queued(self, run_ids: Collection[str]) -> list[Run]:
        return self._read(RunRow.id.in_(run_ids), RunRow.state == RunState.QUEUED)

    def states_of(self, run_ids: Collection[str]) -> dict[str, RunState]:
        query = select(RunRow.id, RunRow.state).where(RunRow.id.in_(run_ids))
        return {run_id: RunState(state) for run_id, state in self._session.execute(query)}

    def queue_position(self, run: Run) -> int:
        sequence = self._row(run.id).sequence
        is_older = or_(
            RunRow.created_at < run.created_at,
            and_(RunRow.created_at == run.created_at, RunRow.sequence <= sequence),
        )
        is_ahead = or_(
            RunRow.priority > run.queue.priority,
            and_(RunRow.priority == run.queue.priority, is_older),
        )
        query = select(func.count()).where(
            # A literal, since the index holds queued runs only.
            RunRow.state == literal(RunState.QUEUED.value, literal_execute=True),
            RunRow.project == run.project,
            is_ahead,
        )
        return self._session.scalar(query) or 0

    def set_waiting_for(self, reasons: Mapping[str, str]) -> list[str]:
        query = (
            select(RunRow.id, RunRow.waiting_for)
            .where(RunRow.id.in_(reasons), RunRow.state == RunState.QUEUED)
            .order_by(RunRow.id)
            .with_for_update()
        )
        changed = [run_id for run_id, why in self._session.execute(query) if why != reasons[run_id]]
        ids_by_reason: dict[str, list[str]] = {}
        for run_id in changed:
            ids_by_reason.setdefault(reasons[run_id], []).append(run_id)
        for reason, ids in ids_by_reason.items():  # thousands of runs wait for a few reasons
            statement = update(RunRow).where(RunRow.id.in_(ids)).values(waiting_for=reason)
            self._session.execute(statement, execution_options={"synchronize_session": False})
        return changed

    def of_pack(self, job: str) -> list[Run]:
        return self._read(RunRow.pack_job == job, RunRow.state.in_(ACTIVE_STATES))

    def of_sweep(self, sweep_id: str, *, trials: Collection[int] | None = None) -> list[Run]:
        is_of_trials = true() if trials is None else RunRow.trial.in_(trials)
        return self._read(RunRow.sweep_id == sweep_id, is_of_trials)

    def not_synced(self) -> list[Run]:
        return self._read(RunRow.mlflow_synced.is_(False), (RunRow.state + "").in_(FINISHED_STATES))

    def _read(self, *conditions: ColumnElement[bool]) -> list[Run]:
        query = SELECT_RUNS.where(*conditions).order_by(RunRow.sequence)
        return read_runs(self._session, query)

    def _update(self, changes: list[dict[str, Any]]) -> None:
        """Change columns of many runs, each given with its `id`."""
        if changes:
            self._session.execute(update(RunRow), changes)

    def _row(self, run_id: str) -> RunRow:
        row = self._session.get(RunRow, run_id)
        if row is None:
            raise RunNotFound(run_id)
        return row


def _new_row(run: Run, *, sequence: int) -> dict[str, Any]:
    return _changeable_columns(run) | {
        "id": run.id,
        "sequence": sequence,
        "task": run.task,
        "dataset": get_dataset_name(run.spec),
        "model_run_id": references_of(run.spec).run_id,
        "spec": run.spec.model_dump_json(),
        "comparison_revision": None if run.lineage.baseline_run_id is None else _new_revision(),
    }


def _changeable_columns(run: Run) -> dict[str, Any]:
    """The values of its columns by name, without those that never change."""
    columns = flatten_run(run)
    del columns["id"], columns["spec"]
    progress = run.results.progress
    return columns | {
        "progress": None if progress is None else progress.model_dump_json(),
        "teacher_map": run.results.latest.get(Metric.TEACHER_MAP),
    }


def _new_tag_rows(run: Run, *, sequence: int) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run.id,
            "key": key,
            "value": value,
            "project": run.project,
            "sequence": sequence,
            "best_map": run.results.best_map,
        }
        for key, value in run.spec.tags.items()
    ]


def _affects_comparisons(row: RunRow, run: Run) -> bool:
    """Whether a change of a run may change whether it, or a run with it as baseline, is compared:
    it ends or is retried, its baseline is another one, its report is gone."""
    has_new_state = row.state != run.state and bool(FINISHED_STATES & {row.state, run.state})
    has_lost_report = row.report_run_id is not None and run.lineage.report_run_id is None
    return has_new_state or has_lost_report or row.baseline_run_id != run.lineage.baseline_run_id


def _new_revision() -> int:
    return secrets.randbits(31)


@lru_cache(_MAX_PARSED_SPECS)
def _parse_spec(document: str) -> JobSpec:
    """A spec, which is immutable; the loops read those of all active runs each second."""
    return _SPEC.validate_json(document)


def read_runs(session: Session, query: Select[Any]) -> list[Run]:
    """The runs of a query that selects `RUN_COLUMNS`."""
    # Not through the session, which takes as long for each row as for making the run.
    return [_run_from_values(row) for row in session.connection().execute(query)]


def _run_from_row(row: RunRow) -> Run:
    return _run_from_values([getattr(row, name) for name in RUN_FIELDS])


_STATE, _REASON, _SPEC_TEXT, _PROGRESS = map(
    RUN_FIELDS.index, ("state", "reason", "spec", "progress")
)


def _run_from_values(row: Sequence[Any]) -> Run:
    """The run of a row with `RUN_COLUMNS`."""
    values = list(row)
    reason, progress = values[_REASON], values[_PROGRESS]
    values[_SPEC_TEXT] = _parse_spec(values[_SPEC_TEXT])
    values[_STATE] = RunState(values[_STATE])
    values[_REASON] = None if reason is None else FailureReason(reason)
    values[_PROGRESS] = None if progress is None else Progress.model_validate_json(progress)
    return build_run_from_values(values)
