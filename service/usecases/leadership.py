"""Leases of the tasks that one service process at a time performs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from service.domain.repositories.unit_of_work import UnitOfWork
from service.usecases.context import Context

Guard = Callable[[UnitOfWork], None]
"""Called first in a transaction; raises an error if its changes must not be made any more."""


class LeadershipLost(Exception):
    """Another service process has become the leader, so this one must end its turn."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Another service has the lease of {name}.")


@dataclass(frozen=True)
class Leadership:
    """The lease of one task."""

    name: str
    ctx: Context

    def acquire(self) -> bool:
        """Acquire the lease, or renew it if half of it is left; whether this process has it."""
        with self.ctx.store.transaction() as uow:
            return self._hold(uow)

    def require(self, uow: UnitOfWork) -> None:
        """As `acquire` within a transaction; raises `LeadershipLost` if another process has it."""
        if not self._hold(uow):
            raise LeadershipLost(self.name)

    def renew(self) -> None:
        """As `require`, in a transaction of its own."""
        with self.ctx.store.transaction() as uow:
            self.require(uow)

    def _hold(self, uow: UnitOfWork) -> bool:
        now = self.ctx.clock.now()
        until = now + timedelta(seconds=self.ctx.policy.lease_s)
        return uow.leader_leases.acquire(self.name, owner=self.ctx.owner, now=now, until=until)


def no_guard(_uow: UnitOfWork) -> None:
    """A guard that allows every change."""
