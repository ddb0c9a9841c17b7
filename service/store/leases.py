"""Leader leases in the database."""

from datetime import datetime

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from service.store.tables import LeaderLeaseRow


class SqlLeaderLeases:
    """Implements `LeaderLeases`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def acquire(self, name: str, *, owner: str, now: datetime, until: datetime) -> bool:
        query = select(LeaderLeaseRow.owner, LeaderLeaseRow.until)
        lease = self._session.execute(query.where(LeaderLeaseRow.name == name)).one_or_none()
        if lease is not None and lease.owner != owner and lease.until >= now:
            return False
        if lease is not None and lease.owner == owner and lease.until - now > (until - now) / 2:
            return True
        return self._take(name, owner=owner, now=now, until=until)

    def release(self, owner: str) -> None:
        self._session.query(LeaderLeaseRow).filter(LeaderLeaseRow.owner == owner).delete()

    def _take(self, name: str, *, owner: str, now: datetime, until: datetime) -> bool:
        """Write the lease, unless another owner has written it in the meantime."""
        is_sqlite = self._session.get_bind().dialect.name == "sqlite"
        insert = sqlite_insert(LeaderLeaseRow) if is_sqlite else postgresql_insert(LeaderLeaseRow)
        new_lease = insert.values(name=name, owner=owner, until=until).on_conflict_do_nothing()
        self._session.execute(new_lease)
        is_available = or_(LeaderLeaseRow.owner == owner, LeaderLeaseRow.until < now)
        renewal = (
            update(LeaderLeaseRow)
            .where(LeaderLeaseRow.name == name, is_available)
            .values(owner=owner, until=until)
        )
        result = self._session.execute(renewal)
        assert isinstance(result, CursorResult)
        return result.rowcount == 1
