"""Sweeps and their logs in the database."""

from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from configs.protocol.probe import Probe
from configs.protocol.sweep_log import SweepEntry
from configs.spec.sweep import SweepSpec
from service.domain.errors.requests import SweepNotFound
from service.domain.repositories.sweeps import SweepFilter
from service.domain.sweeps import Sweep, SweepState
from service.store.pages import select_sweep_page
from service.store.tables import SweepEntryRow, SweepRow
from service.store.writers.locks import AdvisoryLock, acquire

_ENTRY: TypeAdapter[SweepEntry] = TypeAdapter(SweepEntry)
_COMMON_FIELDS = (
    "name",
    "preset",
    "project",
    "priority",
    "desired",
    "message",
    "created_by",
    "driver",
    "driver_log_start",
    "consecutive_failures",
    "not_before",
    "last_seen_at",
    "searching_since",
    "search_duration_s",
    "pack_size",
    "slots",
    "probe_run_id",
    "report_run_id",
    "mlflow_run_id",
    "mlflow_synced",
    "created_at",
    "updated_at",
    "finished_at",
)
"""Fields that are stored unchanged in a column of the same name."""


class SqlSweeps:
    """Implements `Sweeps`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_inserts(self) -> None:
        acquire(AdvisoryLock.SWEEPS, self._session.connection())

    def add(self, sweep: Sweep) -> None:
        last = self._session.scalar(select(func.max(SweepRow.sequence))) or 0
        row = SweepRow(id=sweep.id, sequence=last + 1)
        _fill(row, sweep)
        self._session.add(row)
        self._session.flush()

    def get(self, sweep_id: str) -> Sweep:
        return _sweep_from_row(self._row(sweep_id))

    def find(self, sweep_id: str) -> Sweep | None:
        row = self._session.get(SweepRow, sweep_id)
        return None if row is None else _sweep_from_row(row)

    def get_for_update(self, sweep_id: str) -> Sweep:
        query = select(SweepRow).where(SweepRow.id == sweep_id).with_for_update()
        row = self._session.scalar(query.execution_options(populate_existing=True))
        if row is None:
            raise SweepNotFound(sweep_id)
        return _sweep_from_row(row)

    def save(self, sweep: Sweep) -> None:
        _fill(self._row(sweep.id), sweep)
        self._session.flush()

    def page(self, sweep_filter: SweepFilter) -> list[Sweep]:
        last = None if sweep_filter.before is None else self._row(sweep_filter.before)
        rows = self._session.scalars(select_sweep_page(sweep_filter, last=last))
        return [_sweep_from_row(row) for row in rows]

    def in_states(self, *states: SweepState) -> list[Sweep]:
        query = select(SweepRow).where(SweepRow.state.in_(states)).order_by(SweepRow.sequence)
        return [_sweep_from_row(row) for row in self._session.scalars(query)]

    def not_synced(self) -> list[Sweep]:
        query = (
            select(SweepRow).where(SweepRow.mlflow_synced.is_(False)).order_by(SweepRow.sequence)
        )
        return [_sweep_from_row(row) for row in self._session.scalars(query)]

    def entries(self, sweep_id: str, *, first: int = 0) -> list[SweepEntry]:
        query = (
            select(SweepEntryRow.document)
            .where(SweepEntryRow.sweep_id == sweep_id, SweepEntryRow.position >= first)
            .order_by(SweepEntryRow.position)
        )
        return [_ENTRY.validate_json(document) for document in self._session.scalars(query)]

    def new_entries(self, lengths: Mapping[str, int]) -> dict[str, list[SweepEntry]]:
        conditions = [
            and_(SweepEntryRow.sweep_id == sweep_id, SweepEntryRow.position >= length)
            for sweep_id, length in lengths.items()
        ]
        entries: dict[str, list[SweepEntry]] = {sweep_id: [] for sweep_id in lengths}
        if not conditions:
            return entries
        query = select(SweepEntryRow.sweep_id, SweepEntryRow.document).where(or_(*conditions))
        for sweep_id, document in self._session.execute(query.order_by(SweepEntryRow.position)):
            entries[sweep_id].append(_ENTRY.validate_json(document))
        return entries

    def append(self, sweep_id: str, entries: Sequence[SweepEntry], *, first: int) -> None:
        for position, entry in enumerate(entries, start=first):
            document = entry.model_dump_json()
            self._session.add(
                SweepEntryRow(sweep_id=sweep_id, position=position, document=document)
            )
        self._session.flush()

    def length(self, sweep_id: str) -> int:
        query = select(func.count()).where(SweepEntryRow.sweep_id == sweep_id)
        return self._session.scalar(query) or 0

    def _row(self, sweep_id: str) -> SweepRow:
        row = self._session.get(SweepRow, sweep_id)
        if row is None:
            raise SweepNotFound(sweep_id)
        return row


def _fill(row: SweepRow, sweep: Sweep) -> None:
    for name in _COMMON_FIELDS:
        setattr(row, name, getattr(sweep, name))
    row.state = sweep.state
    row.spec = sweep.spec.model_dump_json()
    row.probe = None if sweep.probe is None else sweep.probe.model_dump_json()


def _sweep_from_row(row: SweepRow) -> Sweep:
    return Sweep(
        id=row.id,
        spec=SweepSpec.model_validate_json(row.spec),
        state=SweepState(row.state),
        probe=None if row.probe is None else Probe.model_validate_json(row.probe),
        **{name: getattr(row, name) for name in _COMMON_FIELDS},
    )
