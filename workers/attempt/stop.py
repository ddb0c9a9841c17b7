"""Stop orders of the service, and how a job leaves when one arrives."""

import signal
from typing import Protocol

from configs.protocol.records import StopKind
from workers.errors import Preempted, StopRequested, Superseded

_STOPS: tuple[StopKind, ...] = ("preempt", "pause", "cancel")


_GO_ON, FIRST_STOP_REQUEST = 0, 1


TERMINATE = FIRST_STOP_REQUEST + len(_STOPS)


_SUPERSEDED = TERMINATE + 1
"""Orders as numbers, the more pressing the larger: processes agree on the largest."""


class StopSource(Protocol):
    """Where it is heard whether this attempt is still wanted."""

    @property
    def requested_stop(self) -> StopKind | None:
        """Why the service wants this attempt to leave; none: it does not."""

    @property
    def is_superseded(self) -> bool:
        """A newer attempt has taken over."""


class Termination:
    """Remembers that the machine asked this process to leave (SIGTERM)."""

    def __init__(self) -> None:
        self.is_requested = False

    def install(self) -> None:
        """Take over SIGTERM; main thread only."""
        signal.signal(signal.SIGTERM, lambda *_: self.request())

    def request(self) -> None:
        """Ask this process to leave."""
        self.is_requested = True


def raise_if_stopped(orders: StopSource, *, termination: Termination) -> None:
    """`Superseded`, `StopRequested` or `Preempted` if this process alone is to end."""
    raise_for_signal(stop_signal(orders, termination))


def stop_signal(orders: StopSource, termination: Termination) -> int:
    """What this process has to do now, as a number that ranks can agree on; 0 to go on."""
    if orders.is_superseded:
        return _SUPERSEDED
    if termination.is_requested:
        return TERMINATE
    asked = orders.requested_stop
    return _GO_ON if asked is None else FIRST_STOP_REQUEST + _STOPS.index(asked)


def raise_for_signal(order: int) -> None:
    """`Superseded`, `StopRequested` or `Preempted` for a signal that is not 0."""
    if order == _SUPERSEDED:
        raise Superseded("A newer attempt of this run has taken over.")
    if order == TERMINATE:
        raise Preempted("The process was asked to terminate (SIGTERM).")
    if order != _GO_ON:
        raise StopRequested(_STOPS[order - FIRST_STOP_REQUEST])
