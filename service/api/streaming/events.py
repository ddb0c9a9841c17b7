"""The events of all runs, read once for all streams that show them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import structlog
from fastapi.concurrency import run_in_threadpool
from sse_starlette.sse import AppStatus

from service.api.streaming.admission import StreamGuard
from service.domain.errors.systems import DatabaseUnreachable
from service.domain.repositories.runs import ProjectEvent
from service.domain.runs import Event
from service.usecases.context import Context
from service.usecases.runs.events import READ_LIMIT, EventReader, list_events_after

_MAX_PENDING: Final = 10_000
"""Events that wait for a client that reads too slowly; beyond, its stream ends."""

log = structlog.get_logger(__name__)


class EventSubscription:
    """The events that one stream has not sent yet."""

    def __init__(self, *, last_id: int, skipped_ids: frozenset[int]) -> None:
        self.last_id = last_id
        """It receives events with larger ids, and late ones of `skipped_ids`."""

        self.skipped_ids = skipped_ids
        self.is_closed = False
        self._pending: list[ProjectEvent] = []
        self._changed = asyncio.Event()

    def publish(self, items: list[ProjectEvent]) -> None:
        """Add events; closes the subscription if nobody takes them."""
        if len(self._pending) + len(items) > _MAX_PENDING:
            self.close()
            return
        self._pending += items
        self._changed.set()

    def close(self) -> None:
        """End the stream after the events that are pending."""
        self.is_closed = True
        self._changed.set()

    async def receive(self, *, timeout_s: float) -> list[ProjectEvent]:
        """The pending events; waits for the first one, but at most `timeout_s`."""
        with anyio.move_on_after(timeout_s):
            await self._changed.wait()
        self._changed.clear()
        items, self._pending = self._pending, []
        return items


class EventFeed:
    """Polls for new events while there are subscriptions, and gives them to all of them."""

    def __init__(self, ctx: Context, *, poll_interval_s: float) -> None:
        self._ctx = ctx
        self._poll_interval_s = poll_interval_s
        self._subscriptions: set[EventSubscription] = set()
        self._reader: EventReader | None = None
        self._last_id = 0
        self._skipped_ids: frozenset[int] = frozenset()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[EventSubscription]:
        """A subscription to the events from now on."""
        async with self._lock:
            if self._reader is None:
                self._reader = await run_in_threadpool(EventReader, self._ctx)
                self._update_position(self._reader)
                self._task = asyncio.create_task(self._poll(self._reader))
            subscription = EventSubscription(last_id=self._last_id, skipped_ids=self._skipped_ids)
            self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def _poll(self, reader: EventReader) -> None:
        try:
            while self._subscriptions or self._lock.locked():
                if not await self._poll_once(reader):
                    await anyio.sleep(self._poll_interval_s)
        except Exception:
            log.exception("events.poll_failed")
        finally:
            # Without an await in between, so that no subscription is added to a feed that ended.
            for subscription in self._subscriptions:
                subscription.close()
            self._subscriptions.clear()
            self._reader = None

    async def _poll_once(self, reader: EventReader) -> bool:
        """Publish what is new; whether there is more."""
        if AppStatus.should_exit:
            for subscription in self._subscriptions:
                subscription.close()
        try:
            items = await run_in_threadpool(reader.read)
        except DatabaseUnreachable:
            return False
        self._update_position(reader)
        if items:
            for subscription in self._subscriptions:
                subscription.publish(items)
        return len(items) >= READ_LIMIT

    def _update_position(self, reader: EventReader) -> None:
        self._last_id, self._skipped_ids = reader.last_id, reader.skipped_ids


async def iter_events(
    since: int | None,
    *,
    run_id: str | None,
    project: str | None,
    feed: EventFeed,
    guard: StreamGuard,
    ctx: Context,
) -> AsyncIterator[Event]:
    """Events after the one with the id `since`, or from now on if it is None, as they happen.

    Ends when the guard says so, and when the service shuts down.
    """
    async with feed.subscribe() as subscription:
        late_ids: set[int] = set()
        if since is not None:
            history = _iter_history(
                since, subscription.last_id, run_id=run_id, project=project, ctx=ctx
            )
            while (event := await run_in_threadpool(next, history, None)) is not None:
                if event.id in subscription.skipped_ids:
                    late_ids.add(event.id)
                yield event
                if not await guard.may_continue():
                    return
        while await guard.may_continue():
            for item in await subscription.receive(timeout_s=guard.wait_s):
                is_own = run_id in (None, item.event.run_id) and project in (None, item.project)
                if is_own and item.event.id not in late_ids:
                    yield item.event
            if subscription.is_closed:
                return


def _iter_history(
    after: int, last_id: int, *, run_id: str | None, project: str | None, ctx: Context
) -> Iterator[Event]:
    """Events with ids above `after`, up to `last_id`."""
    while page := list_events_after(
        after, run_id=run_id, project=project, limit=READ_LIMIT, ctx=ctx
    ):
        for event in page:
            after = event.id or 0
            if after > last_id:
                return
            yield event
