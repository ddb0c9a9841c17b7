"""The logs of runs that streams follow: one poll notices for all of them which have grown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import structlog
from fastapi.concurrency import run_in_threadpool
from sse_starlette.sse import AppStatus

from service.api.streaming.admission import StreamGuard
from service.domain.errors.systems import DatabaseUnreachable
from service.usecases.context import Context
from service.usecases.runs.logs import (
    LogChunk,
    LogPosition,
    LogState,
    follow_logs,
    get_log_states,
)

log = structlog.get_logger(__name__)


@dataclass
class LogWatch:
    """The newest state of one run's logs, shared by the streams that follow them."""

    state: LogState | None = None
    """None until the first poll."""

    num_streams: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, state: LogState | None) -> None:
        """Wake the streams if the state is a new one."""
        if state != self.state:
            self.state = state
            self._changed.set()
            self._changed = asyncio.Event()

    async def wait_for_change(self, seen: LogState | None, *, timeout_s: float) -> None:
        """Return when the state is not `seen` any more, or after `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            if self.state == seen:
                await self._changed.wait()


class LogFeed:
    """Polls the states of the logs that streams follow."""

    def __init__(self, ctx: Context, *, poll_interval_s: float) -> None:
        self._ctx = ctx
        self._poll_interval_s = poll_interval_s
        self._watches: dict[str, LogWatch] = {}
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(self, run_id: str) -> AsyncIterator[LogWatch]:
        """The watch of a run's logs."""
        watch = self._watches.setdefault(run_id, LogWatch())
        watch.num_streams += 1
        if self._task is None:
            self._task = asyncio.create_task(self._poll())
        try:
            yield watch
        finally:
            watch.num_streams -= 1
            if not watch.num_streams:
                del self._watches[run_id]

    async def _poll(self) -> None:
        try:
            while self._watches:
                try:
                    await self._poll_once()
                except Exception:
                    log.exception("logs.poll_failed")
                await anyio.sleep(self._poll_interval_s)
        finally:
            self._task = None

    async def _poll_once(self) -> None:
        try:
            states = await run_in_threadpool(get_log_states, list(self._watches), ctx=self._ctx)
        except (DatabaseUnreachable, OSError):
            return
        for run_id, watch in self._watches.items():
            if run_id in states:
                watch.update(states[run_id])


async def iter_log_chunks(
    run_id: str, *, since: LogPosition, feed: LogFeed, guard: StreamGuard, ctx: Context
) -> AsyncIterator[LogChunk | None]:
    """Parts of a run's logs as they grow; None at last if the run is over.

    Ends without None when the guard says so, and when the service shuts down.
    """
    chunks = follow_logs(run_id, since=since, ctx=ctx)
    end = object()
    seen: LogState | None = None
    has_read_all = False
    async with feed.watch(run_id) as watch:
        while not AppStatus.should_exit and await guard.may_continue():
            if has_read_all and watch.state == seen:
                await watch.wait_for_change(seen, timeout_s=guard.wait_s)
                continue
            seen = watch.state
            chunk = await run_in_threadpool(next, chunks, end)
            if chunk is end:
                yield None
                return
            has_read_all = chunk is None
            if chunk is not None:
                yield chunk  # type: ignore[misc]
