"""Logs and events: as a whole, from a position on, or streamed as server-sent events."""

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
from service.domain.vocabulary import EventKind
from service.usecases.access import resolve_project
from service.usecases.runs import events, logs, queries

router = APIRouter(prefix="/v1", tags=["logs and events"])

Item = TypeVar("Item")
LastEventId = Annotated[str | None, Header(max_length=100)]
Accept = Annotated[str, Header()]

_POLL_INTERVAL_S = 0.5
_PING_INTERVAL_S = 15
_SSE = "text/event-stream"
_STREAM_DESCRIPTION = f"""Events as they happen: those after `Last-Event-ID`, or new ones only
without it.

Each server-sent event has the kind of its event as its name, the number of its event as `id`, and
as `data` the JSON object that `GET /v1/events` lists. The names are
{", ".join(f"`{kind}`" for kind in EventKind)}.

An `EventSource` of a browser needs a listener for each of these names that it handles: its
`onmessage` receives none of them. A comment every {_PING_INTERVAL_S} s keeps the connection alive.
"""
_LOG_POSITION = re.compile(r"(\d{1,6}):(\d{1,18})")


@router.get("/runs/{run_id}/logs", response_class=PlainTextResponse)
def show_logs(
    run_id: str,
    ctx: ContextDep,
    query: Annotated[LogQuery, Query()],
    last_event_id: LastEventId = None,
    accept: Accept = "",
) -> Response:
    """The worker's output; with `follow`, streamed until the run is over.

    With `Accept: text/event-stream`, the stream has server-sent events of two kinds:

    - events without a name (`message` for an `EventSource`): `data` is the next part of the log,
      `id` is `attempt:offset`, the position after it;
    - one event `end`, without data, when the run is over. The client must close the connection, or
      it reconnects.

    A comment is sent every 15 s to keep the connection alive. A client that reconnects with
    `Last-Event-ID` continues after that part of the log and misses nothing.
    """
    if query.follow:
        return _follow_logs(run_id, query, last_event_id, as_events=_SSE in accept, ctx=ctx)
    if query.tail is not None:
        text = logs.read_last_lines(run_id, query.tail, attempt=query.attempt, ctx=ctx)
    elif query.search is not None:
        text = logs.search_log(run_id, query.search, attempt=query.attempt, ctx=ctx)
    else:
        text = logs.read_log(run_id, attempt=query.attempt, offset=query.offset, ctx=ctx)
    return PlainTextResponse(text)


@router.get("/runs/{run_id}/events")
def list_events_of_run(run_id: str, ctx: ContextDep, after: int = 0) -> list[EventView]:
    """The events of a run: why it waits, why it stopped."""
    run_events = events.list_run_events(run_id, after=after, ctx=ctx)
    return [to_event_view(event) for event in run_events]


@router.get("/events")
def list_events(
    ctx: ContextDep, caller: CallerDep, query: Annotated[EventQuery, Query()]
) -> list[EventView]:
    """The events of all runs, oldest first."""
    page = events.list_events_after(
        query.after,
        run_id=query.run,
        project=resolve_project(query.project, caller=caller),
        limit=query.limit,
        ctx=ctx,
    )
    return [to_event_view(event) for event in page]


@router.get(
    "/events/stream",
    response_class=EventSourceResponse,
    description=_STREAM_DESCRIPTION,
)
def stream_events(
    ctx: ContextDep,
    caller: CallerDep,
    query: Annotated[EventQuery, Query()],
    last_event_id: LastEventId = None,
) -> EventSourceResponse:
    """Events as they happen: those after `Last-Event-ID`, or new ones only without it."""
    since = int(last_event_id) if last_event_id and last_event_id.isdigit() else None
    new_events = events.follow_events(
        since if since is not None else query.after or None,
        run_id=query.run,
        project=resolve_project(query.project, caller=caller),
        ctx=ctx,
    )

    async def to_sse() -> AsyncIterator[ServerSentEvent]:
        async for event in _poll(new_events):
            view = to_event_view(event)
            yield ServerSentEvent(view.model_dump_json(), id=str(view.id), event=view.kind)

    return EventSourceResponse(to_sse(), ping=_PING_INTERVAL_S)


def _follow_logs(
    run_id: str, query: LogQuery, last_event_id: str | None, *, as_events: bool, ctx: ContextDep
) -> Response:
    queries.get_run(run_id, ctx=ctx)
    since = _parse_position(last_event_id) or logs.LogPosition(query.attempt or 1, query.offset)
    chunks = logs.follow_logs(run_id, since=since, ctx=ctx)
    if not as_events:
        return StreamingResponse(_iter_text(chunks), media_type="text/plain; charset=utf-8")

    async def to_sse() -> AsyncIterator[ServerSentEvent]:
        async for chunk in _poll(chunks):
            position = f"{chunk.end.attempt}:{chunk.end.offset}"
            yield ServerSentEvent(chunk.text, id=position)
        yield ServerSentEvent("", event="end")

    return EventSourceResponse(to_sse(), ping=_PING_INTERVAL_S)


def _parse_position(last_event_id: str | None) -> logs.LogPosition | None:
    match = _LOG_POSITION.fullmatch(last_event_id or "")
    return None if match is None else logs.LogPosition(int(match[1]), int(match[2]))


async def _iter_text(chunks: Iterator[logs.LogChunk | None]) -> AsyncIterator[str]:
    async for chunk in _poll(chunks):
        yield chunk.text


async def _poll(items: Iterator[Item | None]) -> AsyncIterator[Item]:
    """Iterate in the thread pool; where an item is None, sleep without holding a thread, since
    workers' reports need the threads too."""
    end = object()
    while (item := await run_in_threadpool(next, items, end)) is not end:
        if AppStatus.should_exit:
            return  # the service shuts down; clients reconnect with their last id
        if item is None:
            await anyio.sleep(_POLL_INTERVAL_S)
        else:
            yield item  # type: ignore[misc]
