"""What grows: logs and events, whole, from a place on, or as server-sent events."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, TypeVar

import anyio
from fastapi import APIRouter, Header, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus

from service.api.deps import CallerDep, ContextDep
from service.api.schemas.runs import EventQuery, EventView, LogQuery
from service.api.views import to_event_view
from service.usecases.access import resolve_project
from service.usecases.runs import events, logs, queries

router = APIRouter(prefix="/v1", tags=["logs and events"])

Item = TypeVar("Item")
LastEventId = Annotated[str | None, Header(max_length=100)]
Accept = Annotated[str, Header()]

_LOOK_EVERY_S = 0.5
_PING_EVERY_S = 15
_SSE = "text/event-stream"
_PLACE = re.compile(r"(\d{1,6}):(\d{1,18})")


@router.get("/runs/{run_id}/logs", response_class=PlainTextResponse)
def show_logs(
    run_id: str,
    ctx: ContextDep,
    query: Annotated[LogQuery, Query()],
    last_event_id: LastEventId = None,
    accept: Accept = "",
) -> Response:
    """What the worker printed; with `follow`, until the run is over.

    Asked for as `text/event-stream`, every piece has the id `attempt:offset`; a `Last-Event-ID`
    goes on behind it, so that a connection that was lost loses nothing.
    """
    if query.follow:
        return _followed(run_id, query, last_event_id, as_events=_SSE in accept, ctx=ctx)
    if query.tail is not None:
        text = logs.read_last_lines(run_id, query.tail, attempt=query.attempt, ctx=ctx)
    elif query.search is not None:
        text = logs.search_log(run_id, query.search, attempt=query.attempt, ctx=ctx)
    else:
        text = logs.read_log(run_id, attempt=query.attempt, offset=query.offset, ctx=ctx)
    return PlainTextResponse(text)


@router.get("/runs/{run_id}/events")
def list_events_of_run(run_id: str, ctx: ContextDep, after: int = 0) -> list[EventView]:
    """What happened to a run: why it waits, why it stopped."""
    found = events.list_run_events(run_id, after=after, ctx=ctx)
    return [to_event_view(event) for event in found]


@router.get("/events")
def list_events(
    ctx: ContextDep, caller: CallerDep, query: Annotated[EventQuery, Query()]
) -> list[EventView]:
    """What happened to all runs, in the order in which it did."""
    found = events.list_events_after(
        query.after,
        run_id=query.run,
        project=resolve_project(query.project, caller=caller),
        limit=query.limit,
        ctx=ctx,
    )
    return [to_event_view(event) for event in found]


@router.get("/events/stream", response_class=EventSourceResponse)
def stream_events(
    ctx: ContextDep,
    caller: CallerDep,
    query: Annotated[EventQuery, Query()],
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """Events as they happen; a `Last-Event-ID` goes on behind it, none begins with what is new."""
    since = int(last_event_id) if last_event_id and last_event_id.isdigit() else None
    found = events.follow_events(
        since if since is not None else query.after or None,
        run_id=query.run,
        project=resolve_project(query.project, caller=caller),
        ctx=ctx,
    )

    async def sent() -> AsyncIterator[ServerSentEvent]:
        async for event in _paced(found):
            view = to_event_view(event)
            yield ServerSentEvent(view.model_dump_json(), id=str(view.id), event=view.kind)

    return EventSourceResponse(sent(), ping=_PING_EVERY_S)


def _followed(
    run_id: str, query: LogQuery, last_event_id: str | None, *, as_events: bool, ctx: ContextDep
) -> Response:
    queries.get_run(run_id, ctx=ctx)
    place = _place_from(last_event_id) or logs.LogPosition(query.attempt or 1, query.offset)
    pieces = logs.follow_logs(run_id, since=place, ctx=ctx)
    if not as_events:
        return StreamingResponse(_texts(pieces), media_type="text/plain; charset=utf-8")

    async def sent() -> AsyncIterator[ServerSentEvent]:
        async for piece in _paced(pieces):
            behind = f"{piece.end.attempt}:{piece.end.offset}"
            yield ServerSentEvent(piece.text, id=behind)
        yield ServerSentEvent("", event="end")

    return EventSourceResponse(sent(), ping=_PING_EVERY_S)


def _place_from(last_event_id: str | None) -> logs.LogPosition | None:
    found = _PLACE.fullmatch(last_event_id or "")
    return None if found is None else logs.LogPosition(int(found[1]), int(found[2]))


async def _texts(pieces: Iterator[logs.LogChunk | None]) -> AsyncIterator[str]:
    async for piece in _paced(pieces):
        yield piece.text


async def _paced(items: Iterator[Item | None]) -> AsyncIterator[Item]:
    """Waits between two looks without a thread: those are few, and workers report through them."""
    over = object()
    while (item := await run_in_threadpool(next, items, over)) is not over:
        if AppStatus.should_exit:
            return  # the service ends; whoever listens comes back with the last id
        if item is None:
            await anyio.sleep(_LOOK_EVERY_S)
        else:
            yield item  # type: ignore[misc]
