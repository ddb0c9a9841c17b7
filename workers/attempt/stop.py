"""Stop orders of the service, and how a job leaves when one arrives."""

import signal
from typing import Protocol

from configs.protocol.records import StopKind
from workers.errors import Preempted, StopRequested, Superseded

_STOPS: tuple[StopKind, ...] = ("preempt", "pause", "cancel")


_GO_ON, _FIRST_STOP = 0, 1


_TERMINATE = _FIRST_STOP + len(_STOPS)


_SUPERSEDED = _TERMINATE + 1
"""Orders as numbers, the more pressing the larger: processes agree on the largest."""


class Orders(Protocol):
    """Where it is heard whether this attempt is still wanted."""

    @property
    def stop_asked(self) -> StopKind | None:
        """Why the service wants this attempt to leave; none: it does not."""

    @property
    def is_superseded(self) -> bool:
        """A newer attempt has taken over."""


class Termination:
    """Remembers that the machine asked this process to leave (SIGTERM)."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        """Take over SIGTERM; main thread only."""
        signal.signal(signal.SIGTERM, lambda *_: self.request())

    def request(self) -> None:
        """Ask this process to leave."""
        self.requested = True


def leave_if_unwanted(orders: Orders, *, termination: Termination) -> None:
    """`Superseded`, `StopRequested` or `Preempted` if this process alone is to end."""
    _leave(_order(orders, termination))


def _order(orders: Orders, termination: Termination) -> int:
    if orders.is_superseded:
        return _SUPERSEDED
    if termination.requested:
        return _TERMINATE
    asked = orders.stop_asked
    return _GO_ON if asked is None else _FIRST_STOP + _STOPS.index(asked)


def _leave(order: int) -> None:
    if order == _SUPERSEDED:
        raise Superseded("A newer attempt of this run has taken over.")
    if order == _TERMINATE:
        raise Preempted("The process was asked to terminate (SIGTERM).")
    if order != _GO_ON:
        raise StopRequested(_STOPS[order - _FIRST_STOP])
