"""Additional services that share the database of a `Stage`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from service.adapters.clock import FixedClock
from service.domain.ports import JobRequest
from service.loops.reconcile import Reconciler
from service.loops.submit import Submitter
from service.store.database import Database
from service.usecases.context import Context
from tests.support.service.stage import Stage


@dataclass
class Replica:
    """A service with its own connections, clock, owner name and state in memory."""

    ctx: Context
    clock: FixedClock
    submitter: Submitter
    reconciler: Reconciler

    def run_loops(self) -> None:
        self.submitter.run_once()
        self.reconciler.run_once()


@contextmanager
def open_replica(stage: Stage, owner: str, *, clock_ahead_s: float = 0.0) -> Iterator[Replica]:
    clock = FixedClock(stage.clock.now())
    clock.advance(clock_ahead_s)
    store = stage.ctx.store
    assert isinstance(store, Database)
    database = store.clone()
    ctx = replace(stage.ctx, store=database, owner=owner, clock=clock)
    try:
        yield Replica(ctx, clock, Submitter(ctx), Reconciler(ctx, max_gap_s=1e9))
    finally:
        database.close()


def make_slow_submit(
    replicas: Sequence[Replica], *, seconds: float, then: Callable[[JobRequest], None]
) -> Callable[[JobRequest], None]:
    """A cluster's `submit` that takes `seconds` on the clocks of the replicas and submits nothing.

    `then` is called at the end of each submission.
    """

    def submit(request: JobRequest) -> None:
        for replica in replicas:
            replica.clock.advance(seconds)
        then(request)

    return submit
