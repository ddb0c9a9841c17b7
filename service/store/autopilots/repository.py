"""Reads and writes autopilots."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from configs.spec.autopilot import AutopilotSpec
from service.domain.autopilot.autopilots import Autopilot, AutopilotJob, AutopilotPhase
from service.domain.autopilot.history import AutopilotEntry
from service.domain.autopilot.request import AutopilotRequest
from service.domain.errors.requests import AutopilotNotFound
from service.domain.repositories.autopilots import AutopilotFilter
from service.store.autopilots.tables import AutopilotEntryRow, AutopilotJobRow, AutopilotRow
from service.store.pages import has_rare_prefix, id_starts_with
from service.store.writers.locks import AdvisoryLock, acquire

_ENTRY: TypeAdapter[AutopilotEntry] = TypeAdapter(AutopilotEntry)
_COMMON_FIELDS = (
    "id",
    "name",
    "preset",
    "project",
    "priority",
    "desired",
    "message",
    "active_since",
    "active_s",
    "created_by",
    "created_at",
    "updated_at",
    "finished_at",
)
"""Fields that are stored unchanged in a column of the same name."""


class SqlAutopilots:
    """Implements `Autopilots`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_inserts(self) -> None:
        acquire(AdvisoryLock.AUTOPILOTS, self._session.connection())

    def add(self, autopilot: Autopilot) -> None:
        last = self._session.scalar(select(func.max(AutopilotRow.sequence))) or 0
        row = AutopilotRow(sequence=last + 1)
        _fill(row, autopilot)
        self._session.add(row)
        self._session.flush()

    def get(self, autopilot_id: str) -> Autopilot:
        return _autopilot_from_row(self._row(autopilot_id))

    def get_for_update(self, autopilot_id: str) -> Autopilot:
        query = select(AutopilotRow).where(AutopilotRow.id == autopilot_id).with_for_update()
        row = self._session.scalar(query.execution_options(populate_existing=True))
        if row is None:
            raise AutopilotNotFound(autopilot_id)
        return _autopilot_from_row(row)

    def save(self, autopilot: Autopilot) -> None:
        _fill(self._row(autopilot.id), autopilot)
        self._session.flush()

    def page(self, autopilot_filter: AutopilotFilter) -> list[Autopilot]:
        last = autopilot_filter.before and self._row(autopilot_filter.before).sequence
        rows = self._session.scalars(_select_page(autopilot_filter, last=last or None))
        return [_autopilot_from_row(row) for row in rows]

    def in_phases(self, *phases: AutopilotPhase) -> list[Autopilot]:
        query = (
            select(AutopilotRow)
            .where(AutopilotRow.phase.in_(phases))
            .order_by(AutopilotRow.sequence)
        )
        return [_autopilot_from_row(row) for row in self._session.scalars(query)]

    def entries(self, autopilot_id: str) -> list[AutopilotEntry]:
        query = (
            select(AutopilotEntryRow.document)
            .where(AutopilotEntryRow.autopilot_id == autopilot_id)
            .order_by(AutopilotEntryRow.position)
        )
        return [_ENTRY.validate_json(document) for document in self._session.scalars(query)]

    def append(self, autopilot_id: str, entries: Sequence[AutopilotEntry], *, first: int) -> None:
        self._session.add_all(
            AutopilotEntryRow(
                autopilot_id=autopilot_id, position=position, document=entry.model_dump_json()
            )
            for position, entry in enumerate(entries, start=first)
        )
        self._session.flush()

    def jobs(self, autopilot_id: str) -> list[AutopilotJob]:
        query = (
            select(AutopilotJobRow)
            .where(AutopilotJobRow.autopilot_id == autopilot_id)
            .order_by(AutopilotJobRow.position)
        )
        return [
            AutopilotJob(row.key, row.run_id, row.first_attempt)
            for row in self._session.scalars(query)
        ]

    def add_job(self, autopilot_id: str, job: AutopilotJob) -> None:
        count = select(func.count()).where(AutopilotJobRow.autopilot_id == autopilot_id)
        self._session.add(
            AutopilotJobRow(
                autopilot_id=autopilot_id,
                key=job.key,
                run_id=job.run_id,
                position=self._session.scalar(count) or 0,
                first_attempt=job.first_attempt,
            )
        )
        self._session.flush()

    def _row(self, autopilot_id: str) -> AutopilotRow:
        row = self._session.get(AutopilotRow, autopilot_id)
        if row is None:
            raise AutopilotNotFound(autopilot_id)
        return row


def _select_page(autopilot_filter: AutopilotFilter, *, last: int | None) -> Select[Any]:
    """The rows of a page, newest first; `last` is the sequence of the last row before it."""
    query = select(AutopilotRow).limit(autopilot_filter.limit)
    if last is not None:
        query = query.where(AutopilotRow.sequence < last)
    if autopilot_filter.phase is not None:
        query = query.where(AutopilotRow.phase == autopilot_filter.phase)
    if autopilot_filter.project is not None:
        query = query.where(AutopilotRow.project == autopilot_filter.project)
    if autopilot_filter.id_prefix is not None:
        query = query.where(id_starts_with(AutopilotRow.id, autopilot_filter.id_prefix, kind="a"))
    if has_rare_prefix(autopilot_filter.id_prefix, kind="a"):
        return query.order_by((AutopilotRow.sequence + 0).desc())
    return query.order_by(AutopilotRow.sequence.desc())


def _fill(row: AutopilotRow, autopilot: Autopilot) -> None:
    for name in _COMMON_FIELDS:
        setattr(row, name, getattr(autopilot, name))
    row.phase = autopilot.phase
    row.spec = autopilot.spec.model_dump_json()
    row.request = None if autopilot.request is None else autopilot.request.model_dump_json()
    row.notes = list(autopilot.notes)


def _autopilot_from_row(row: AutopilotRow) -> Autopilot:
    return Autopilot(
        spec=AutopilotSpec.model_validate_json(row.spec),
        phase=AutopilotPhase(row.phase),
        request=None if row.request is None else AutopilotRequest.model_validate_json(row.request),
        notes=tuple(row.notes),
        **{name: getattr(row, name) for name in _COMMON_FIELDS},
    )
