"""Why an attempt has to stop: SIGTERM, a request of the service, or a newer attempt."""

import signal
from typing import Protocol

from configs.protocol.records import StopKind
from workers.errors import Preempted, StopRequested, Superseded

_STOP_KINDS: tuple[StopKind, ...] = ("preempt", "pause", "cancel")

# Stop signals, the more urgent the larger: the processes of a run agree on the maximum.
_CONTINUE = 0
FIRST_STOP_REQUEST = 1
TERMINATE = FIRST_STOP_REQUEST + len(_STOP_KINDS)
_SUPERSEDED = TERMINATE + 1


class StopSource(Protocol):
    """The part of `Reporter` that says whether the attempt has to stop."""

    @property
    def requested_stop(self) -> StopKind | None: ...

    @property
    def is_superseded(self) -> bool: ...


class Termination:
    """Whether this process was asked to terminate (SIGTERM)."""

    def __init__(self) -> None:
        self.is_requested = False

    def install(self) -> None:
        """Install the SIGTERM handler; main thread only."""
        signal.signal(signal.SIGTERM, lambda *_: self.request())

    def request(self) -> None:
        self.is_requested = True


def raise_if_stopped(source: StopSource, *, termination: Termination) -> None:
    """Raise `Superseded`, `StopRequested` or `Preempted` if this process has to stop.

    Only for jobs of one process; several agree on a signal first (`StopHook`).
    """
    raise_for_signal(stop_signal(source, termination))


def stop_signal(source: StopSource, termination: Termination) -> int:
    """The most urgent signal that this process knows of."""
    if source.is_superseded:
        return _SUPERSEDED
    if termination.is_requested:
        return TERMINATE
    kind = source.requested_stop
    return _CONTINUE if kind is None else FIRST_STOP_REQUEST + _STOP_KINDS.index(kind)


def raise_for_signal(value: int) -> None:
    """Raise the exception that a stop signal stands for, if it is one."""
    if value == _SUPERSEDED:
        raise Superseded("A newer attempt of this run has taken over.")
    if value == TERMINATE:
        raise Preempted("The process was asked to terminate (SIGTERM).")
    if value != _CONTINUE:
        raise StopRequested(_STOP_KINDS[value - FIRST_STOP_REQUEST])
