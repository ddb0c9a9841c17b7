"""Sweeps and their lists in the database."""

from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from configs.protocol.probe import Probe
from configs.protocol.sweep_log import SweepEntry
from configs.spec.sweep import SweepSpec
from service.domain.errors import SweepNotFound
from service.domain.repositories.sweeps import SweepFilter
from service.domain.sweeps import Sweep, SweepState
from service.store.tables import SweepEntryRow, SweepRow

_ENTRY: TypeAdapter[SweepEntry] = TypeAdapter(SweepEntry)
_ADDING = 7_410_002
"""PostgreSQL's lock of those that add sweeps."""

_SAME_NAME = (
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
"""Fields that a row and a sweep share as they are."""


class SqlSweeps:
    """Implements `stored.Sweeps`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_inserts(self) -> None:
        """Until the end of the transaction no other one adds sweeps."""
        if self._session.get_bind().dialect.name == "postgresql":
            self._session.execute(select(func.pg_advisory_xact_lock(_ADDING)))

    def add(self, sweep: Sweep, *, key: str | None = None, digest: str | None = None) -> None:
        """Store a new sweep after all others, and the key that made it; after `alone`."""
        last = self._session.scalar(select(func.max(SweepRow.sequence))) or 0
        row = SweepRow(id=sweep.id, order=last + 1, key=key, request_digest=digest)
        _fill(row, sweep)
        self._session.add(row)
        self._session.flush()

    def get(self, sweep_id: str) -> Sweep:
        """The sweep as it is; `SweepNotFound` if there is none."""
        return _sweep_from_row(self._row(sweep_id))

    def get_for_update(self, sweep_id: str) -> Sweep:
        """The sweep to be changed: until the end of the transaction nobody else changes it."""
        query = select(SweepRow).where(SweepRow.id == sweep_id).with_for_update()
        row = self._session.scalar(query.execution_options(populate_existing=True))
        if row is None:
            raise SweepNotFound(sweep_id)
        return _sweep_from_row(row)

    def save(self, sweep: Sweep) -> None:
        """Store a changed sweep."""
        _fill(self._row(sweep.id), sweep)
        self._session.flush()

    def page(self, which: SweepFilter) -> list[Sweep]:
        """Newest first."""
        query = select(SweepRow).order_by(SweepRow.sequence.desc()).limit(which.limit)
        if which.state is not None:
            query = query.where(SweepRow.state == which.state)
        if which.project is not None:
            query = query.where(SweepRow.project == which.project)
        if which.before is not None:
            query = query.where(SweepRow.sequence < self._row(which.before).sequence)
        return [_sweep_from_row(row) for row in self._session.scalars(query)]

    def in_states(self, *states: SweepState) -> list[Sweep]:
        """All sweeps in these states, oldest first."""
        query = select(SweepRow).where(SweepRow.state.in_(states)).order_by(SweepRow.sequence)
        return [_sweep_from_row(row) for row in self._session.scalars(query)]

    def not_synced(self) -> list[Sweep]:
        """Sweeps of which MLflow does not show everything yet, oldest first."""
        query = (
            select(SweepRow).where(SweepRow.mlflow_synced.is_(False)).order_by(SweepRow.sequence)
        )
        return [_sweep_from_row(row) for row in self._session.scalars(query)]

    def find_idempotency_key(self, key: str) -> tuple[str, str] | None:
        """Request digest and sweep id of an idempotency key."""
        row = self._session.scalar(select(SweepRow).where(SweepRow.key == key))
        return None if row is None else (row.request_digest or "", row.id)

    def entries(self, sweep_id: str, *, first: int = 0) -> list[SweepEntry]:
        """A sweep's list from a position on."""
        query = (
            select(SweepEntryRow.document)
            .where(SweepEntryRow.sweep_id == sweep_id, SweepEntryRow.position >= first)
            .order_by(SweepEntryRow.position)
        )
        return [_ENTRY.validate_json(document) for document in self._session.scalars(query)]

    def new_entries(self, known: Mapping[str, int]) -> dict[str, list[SweepEntry]]:
        """By sweep, what its list has beyond the entries that are known."""
        beyond = [
            and_(SweepEntryRow.sweep_id == sweep_id, SweepEntryRow.position >= count)
            for sweep_id, count in known.items()
        ]
        found: dict[str, list[SweepEntry]] = {sweep_id: [] for sweep_id in known}
        if not beyond:
            return found
        query = select(SweepEntryRow.sweep_id, SweepEntryRow.document).where(or_(*beyond))
        for sweep_id, document in self._session.execute(query.order_by(SweepEntryRow.position)):
            found[sweep_id].append(_ENTRY.validate_json(document))
        return found

    def append(self, sweep_id: str, entries: Sequence[SweepEntry], *, first: int) -> None:
        """Write entries from position `first` on; the database refuses a position that is taken."""
        for position, entry in enumerate(entries, start=first):
            document = entry.model_dump_json()
            self._session.add(
                SweepEntryRow(sweep_id=sweep_id, position=position, document=document)
            )
        self._session.flush()

    def length(self, sweep_id: str) -> int:
        """How many entries a sweep's list has."""
        query = select(func.count()).where(SweepEntryRow.sweep_id == sweep_id)
        return self._session.scalar(query) or 0

    def _row(self, sweep_id: str) -> SweepRow:
        row = self._session.get(SweepRow, sweep_id)
        if row is None:
            raise SweepNotFound(sweep_id)
        return row


def _fill(row: SweepRow, sweep: Sweep) -> None:
    for name in _SAME_NAME:
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
        **{name: getattr(row, name) for name in _SAME_NAME},
    )
