"""A thread that takes one step after another, and is not stopped by a step that fails."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Protocol, TypeVar

import structlog

from service.domain.errors import JobRefused, LeaseLost, Unreachable
from service.domain.metrics.counters import NULL_COUNTERS, Counters
from service.domain.repositories.unit_of_work import UnitOfWork
from service.usecases.context import Context

_LONGEST_PAUSE_S = 15.0

log = structlog.get_logger(__name__)


class HasId(Protocol):
    """A run or a sweep."""

    @property
    def id(self) -> str:
        """Its id."""


WorkItemT = TypeVar("WorkItemT", bound=HasId)


def for_each_isolated(
    things: Iterable[WorkItemT],
    step: Callable[[WorkItemT], None],
    *,
    loop: str,
    counters: Counters = NULL_COUNTERS,
    id_field: str = "run_id",
) -> None:
    """Take `step` for every run or sweep; one that fails keeps no other from its own.

    An outside system that does not answer ends the turn: it is the same for all.
    """
    for thing in things:
        about = {id_field: thing.id}
        try:
            with structlog.contextvars.bound_contextvars(**about):
                step(thing)
        except Unreachable:
            raise
        except LeaseLost as error:
            counters.count("lease_conflicts")
            log.info("loop.lease_lost", loop=loop, **about, why=str(error))
        except JobRefused as error:
            log.warning("loop.job_refused", loop=loop, **about, why=str(error))
        except Exception:
            log.exception("loop.run_failed", loop=loop, **about)


def is_leader(uow: UnitOfWork, duty: str, *, ctx: Context) -> bool:
    """Whether this service process has a duty that one at a time has; if so, for a lease longer."""
    now = ctx.clock.now()
    until = now + timedelta(seconds=ctx.policy.lease_s)
    return uow.leader_leases.acquire(duty, owner=ctx.owner, now=now, until=until)


TurnContext = Callable[[str], AbstractContextManager[None]]
"""What goes around every turn of the loop with this name."""


class Loop:
    """Repeats `step` every `interval_s`; backs off while an outside system is away."""

    def __init__(
        self,
        name: str,
        step: Callable[[], None],
        *,
        interval_s: float,
        turn_context: TurnContext = lambda _: nullcontext(),
    ) -> None:
        self.name = name
        self._watch = turn_context
        self.last_turn_ended_s = time.monotonic()

        self._step = step
        self._interval_s = interval_s
        self._pause_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def age_s(self) -> float:
        """Seconds since its last turn came to its end."""
        return time.monotonic() - self.last_turn_ended_s

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, timeout_s: float) -> None:
        """End after the current step."""
        self._stopping.set()
        self._thread.join(timeout=timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._step_safely()
            self._stopping.wait(self._pause_s)

    def _step_safely(self) -> None:
        try:
            with self._watch(self.name):
                self._step()
            self.last_turn_ended_s = time.monotonic()
        except Unreachable as error:
            if self._pause_s == self._interval_s:
                log.warning("loop.waits", loop=self.name, why=str(error))
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        except Exception:
            log.exception("loop.step_failed", loop=self.name)
            self._pause_s = _LONGEST_PAUSE_S
        else:
            if self._pause_s > self._interval_s:
                log.info("loop.goes_on", loop=self.name)
            self._pause_s = self._interval_s
