"""A loop in a thread that repeats a step and survives its failures."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import structlog

from service.domain.errors.conflicts import LeaseLost
from service.domain.errors.systems import ClusterFault, JobRefused, Unreachable
from service.domain.metrics.counters import NULL_COUNTERS, Counters
from service.usecases.leadership import LeadershipLost

_MAX_BACKOFF_S = 15.0
_REST_PER_TURN = 2.0
"""A loop rests at least twice as long as its turn took, so that requests get most of the CPU even
if thousands of runs make a turn long."""

_MIN_REST_S = 0.1
"""Between turns for which a loop is woken: a burst of launches shares one."""

_MAX_REST_S = 3.0
"""Well below the time of a lease, which is renewed in each turn."""

log = structlog.get_logger(__name__)


class HasId(Protocol):
    """A run or a sweep."""

    @property
    def id(self) -> str:
        """Id for log messages."""


WorkItemT = TypeVar("WorkItemT", bound=HasId)


def for_each_isolated(
    items: Iterable[WorkItemT],
    step: Callable[[WorkItemT], None],
    *,
    loop: str,
    counters: Counters = NULL_COUNTERS,
    id_field: str = "run_id",
) -> None:
    """Call `step` for every run or sweep; a failure of one is logged and does not affect others.

    `Unreachable` is raised instead, because an external system is down for all of them, and
    `LeadershipLost`, because another process continues with the rest.
    """
    for item in items:
        context = {id_field: item.id}
        try:
            with structlog.contextvars.bound_contextvars(**context):
                step(item)
        except (Unreachable, LeadershipLost):
            raise
        except LeaseLost as error:
            counters.count("lease_conflicts")
            log.info("loop.lease_lost", loop=loop, **context, reason=str(error))
        except JobRefused as error:
            log.warning("loop.job_rejected", loop=loop, **context, reason=str(error))
        except ClusterFault as error:
            log.warning("loop.cluster_fault", loop=loop, **context, reason=str(error))
        except Exception:
            log.exception("loop.item_failed", loop=loop, **context)


TurnContext = Callable[[str], AbstractContextManager[None]]
"""Creates the context manager around each turn of the loop with the given name."""


class Loop:
    """Repeats `step` in a thread, `interval_s` or a long turn's rest after the one before, or when
    it is woken; backs off while an external system is down."""

    def __init__(
        self,
        name: str,
        step: Callable[[], None],
        *,
        interval_s: float,
        turn_context: TurnContext = lambda _: nullcontext(),
        wake: threading.Event | None = None,
        can_be_woken: Callable[[], bool] = lambda: True,
    ) -> None:
        """`wake`: the next turn begins when it is set, after the rest of a long turn, unless
        `can_be_woken` was false after the turn before."""
        self.name = name
        self._turn_context = turn_context
        self.last_turn_ended_s = time.monotonic()

        self._step = step
        self._interval_s = interval_s
        self._pause_s = interval_s
        self._rest_s = 0.0
        self._wake = wake or threading.Event()
        self._can_be_woken = can_be_woken
        self._has_failed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def age_s(self) -> float:
        """Seconds since the last completed turn."""
        return time.monotonic() - self.last_turn_ended_s

    def start(self) -> None:
        """Start the thread, a daemon."""
        self._thread.start()

    def stop(self, *, timeout_s: float) -> None:
        """Stop after the current step; waits for it up to `timeout_s`."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()  # before the turn, which sees what has changed until then
            self._run_step()
            ignores_wake = self._has_failed or not self._can_be_woken()
            rest_s = self._pause_s if ignores_wake else self._rest_s
            self._stopping.wait(rest_s)
            if not self._stopping.is_set():
                self._wake.wait(self._pause_s - rest_s)

    def _run_step(self) -> None:
        started_s = time.monotonic()
        try:
            with self._turn_context(self.name):
                self._step()
            self.last_turn_ended_s = time.monotonic()
        except Unreachable as error:
            if not self._has_failed:
                log.warning("loop.backing_off", loop=self.name, reason=str(error))
            self._has_failed = True
            self._pause_s = min(self._pause_s * 2, _MAX_BACKOFF_S)
        except Exception:
            log.exception("loop.step_failed", loop=self.name)
            self._has_failed = True
            self._pause_s = _MAX_BACKOFF_S
        else:
            if self._has_failed:
                log.info("loop.recovered", loop=self.name)
            self._has_failed = False
            rest_s = min(_MAX_REST_S, _REST_PER_TURN * (self.last_turn_ended_s - started_s))
            self._pause_s = max(self._interval_s, rest_s)
            self._rest_s = min(self._pause_s, max(_MIN_REST_S, rest_s))
