"""Who may take how much of the cluster, and who of several services does what."""

from datetime import datetime

from sqlalchemy import or_, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from service.store.tables import LeaderLeaseRow


class SqlLeaderLeases:
    """Implements `stored.Duties`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def acquire(self, name: str, *, owner: str, now: datetime, until: datetime) -> bool:
        """Whether `owner` has the duty until `until`: nobody had it, or its time was over."""
        is_sqlite = self._session.get_bind().dialect.name == "sqlite"
        insert = sqlite_insert(LeaderLeaseRow) if is_sqlite else postgresql_insert(LeaderLeaseRow)
        fresh = insert.values(name=name, owner=owner, until=until).on_conflict_do_nothing()
        self._session.execute(fresh)
        is_free = or_(LeaderLeaseRow.owner == owner, LeaderLeaseRow.until < now)
        mine = (
            update(LeaderLeaseRow)
            .where(LeaderLeaseRow.name == name, is_free)
            .values(owner=owner, until=until)
        )
        result = self._session.execute(mine)
        assert isinstance(result, CursorResult)
        return result.rowcount == 1

    def release(self, owner: str) -> None:
        """Give all duties of `owner` back."""
        self._session.query(LeaderLeaseRow).filter(LeaderLeaseRow.owner == owner).delete()
