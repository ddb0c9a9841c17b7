"""Logs and events: page by page, from a position on, or streamed as server-sent events."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header, Query, Response
from fastapi.responses import StreamingResponse
from sse_starlette import EventSourceResponse, ServerSentEvent

from service.api.deps import CallerDep, ContextDep, StreamDep, StreamRequest
from service.api.errors import problem_response
from service.api.routers import create_router
from service.api.schemas.run_details import LogQuery
from service.api.schemas.run_pages import EventPage, EventQuery, EventStreamQuery, RunEventQuery
from service.api.streaming.events import iter_events
from service.api.streaming.logs import iter_log_chunks
from service.api.views import to_event_view
from service.domain.runs import Event
from service.domain.vocabulary import EventKind
from service.usecases.access import resolve_project
from service.usecases.runs import events, logs, queries

router = create_router(tag="logs and events")

LastEventId = Annotated[str | None, Header(max_length=100)]
Accept = Annotated[str, Header()]

_PING_INTERVAL_S = 15
_SSE = "text/event-stream"
_TEXT = "text/plain; charset=utf-8"
_STREAM_DESCRIPTION = f"""Events as they happen: those after `Last-Event-ID`, or new ones only
without it.

Each server-sent event has the kind of its event as its name, the number of its event as `id`, and
as `data` the JSON object that `GET /v1/events` lists. The names are
{", ".join(f"`{kind}`" for kind in EventKind)}.

An `EventSource` of a browser needs a listener for each of these names that it handles: its
`onmessage` receives none of them. A comment every {_PING_INTERVAL_S} s keeps the connection alive.

A stream ends after an hour, and when its token is revoked or expires; a client reconnects with
`Last-Event-ID` and misses nothing. A token may have 20 streams at a time.
"""
_EVENT_ID = re.compile(r"[0-9]{1,18}")
_LOG_POSITION = re.compile(r"([0-9]{1,6}):([0-9]{1,15})")


@router.get("/runs/{run_id}/logs", response_class=StreamingResponse)
def show_logs(
    run_id: str,
    ctx: ContextDep,
    stream: StreamDep,
    query: Annotated[LogQuery, Query()],
    last_event_id: LastEventId = None,
    accept: Accept = "",
) -> Response:
    """The worker's output; with `follow`, streamed until the run is over.

    Of a log over 32 MiB, the first and the last 16 MiB are kept; a line says how many bytes were
    left out between them. Offsets count these bytes, too.

    With `Accept: text/event-stream`, the stream has server-sent events of two kinds:

    - events without a name (`message` for an `EventSource`): `data` is the next part of the log,
      `id` is `attempt:offset`, the position after it;
    - one event `end`, without data, when the run is over. The client must close the connection, or
      it reconnects.

    A comment is sent every 15 s to keep the connection alive. A stream ends after an hour, and when
    its token is revoked or expires. A client that reconnects with `Last-Event-ID` continues after
    that part of the log and misses nothing.
    """
    if query.follow:
        return _follow_logs(run_id, query, last_event_id, as_events=_SSE in accept, stream=stream)
    if query.tail is not None:
        text = logs.read_last_lines(run_id, query.tail, attempt=query.attempt, ctx=ctx)
        return Response(text, media_type=_TEXT)
    if query.search is not None:
        texts = logs.search_log(run_id, query.search, attempt=query.attempt, ctx=ctx)
    else:
        texts = logs.iter_log(run_id, attempt=query.attempt, offset=query.offset, ctx=ctx)
    return StreamingResponse(texts, media_type=_TEXT)


@router.get("/runs/{run_id}/events")
def list_events_of_run(
    run_id: str, ctx: ContextDep, query: Annotated[RunEventQuery, Query()]
) -> EventPage:
    """The events of a run, page by page, oldest first: why it waits, why it stopped."""
    page = events.list_run_events(run_id, after=query.cursor, limit=query.limit + 1, ctx=ctx)
    return _make_page(page, limit=query.limit)


@router.get("/events")
def list_events(
    ctx: ContextDep, caller: CallerDep, query: Annotated[EventQuery, Query()]
) -> EventPage:
    """The events of all runs, page by page, oldest first."""
    page = events.list_events_after(
        query.cursor,
        run_id=query.run,
        project=resolve_project(query.project, caller=caller),
        limit=query.limit + 1,
        ctx=ctx,
    )
    return _make_page(page, limit=query.limit)


@router.get(
    "/events/stream",
    response_class=EventSourceResponse,
    description=_STREAM_DESCRIPTION,
)
def stream_events(
    ctx: ContextDep,
    stream: StreamDep,
    query: Annotated[EventStreamQuery, Query()],
    last_event_id: LastEventId = None,
) -> Response:
    """Events as they happen: those after `Last-Event-ID`, or new ones only without it."""
    if last_event_id and not _EVENT_ID.fullmatch(last_event_id):
        return _refuse_event_id("It is the number of an event.")
    since = int(last_event_id) if last_event_id else query.after or None
    project = resolve_project(query.project, caller=stream.caller)

    async def to_sse() -> AsyncIterator[ServerSentEvent]:
        async for event in iter_events(
            since,
            run_id=query.run,
            project=project,
            feed=stream.streams.events,
            guard=stream.make_guard(),
            ctx=ctx,
        ):
            view = to_event_view(event)
            yield ServerSentEvent(view.model_dump_json(), id=str(view.id), event=view.kind)

    return stream.admit(lambda: EventSourceResponse(to_sse(), ping=_PING_INTERVAL_S))


def _make_page(page: list[Event], *, limit: int) -> EventPage:
    """A page of `limit` events; one more in `page` tells that another page follows."""
    items = [to_event_view(event) for event in page[:limit]]
    return EventPage(items=items, next_cursor=items[-1].id if len(page) > limit else None)


def _follow_logs(
    run_id: str,
    query: LogQuery,
    last_event_id: str | None,
    *,
    as_events: bool,
    stream: StreamRequest,
) -> Response:
    queries.get_run(run_id, ctx=stream.ctx)
    since = _parse_position(last_event_id) if last_event_id else None
    if last_event_id and since is None:
        return _refuse_event_id("It is attempt:offset, as in 1:2048.")
    since = since or logs.LogPosition(query.attempt or 1, query.offset)

    def iter_chunks() -> AsyncIterator[logs.LogChunk | None]:
        return iter_log_chunks(
            run_id,
            since=since,
            feed=stream.streams.logs,
            guard=stream.make_guard(),
            ctx=stream.ctx,
        )

    async def to_sse() -> AsyncIterator[ServerSentEvent]:
        async for chunk in iter_chunks():
            if chunk is None:
                yield ServerSentEvent("", event="end")
            else:
                position = f"{chunk.end.attempt}:{chunk.end.offset}"
                yield ServerSentEvent(chunk.text, id=position)

    async def to_text() -> AsyncIterator[str]:
        async for chunk in iter_chunks():
            if chunk is not None:
                yield chunk.text

    if as_events:
        return stream.admit(lambda: EventSourceResponse(to_sse(), ping=_PING_INTERVAL_S))
    return stream.admit(lambda: StreamingResponse(to_text(), media_type=_TEXT))


def _parse_position(last_event_id: str) -> logs.LogPosition | None:
    match = _LOG_POSITION.fullmatch(last_event_id)
    return None if match is None else logs.LogPosition(int(match[1]), int(match[2]))


def _refuse_event_id(form: str) -> Response:
    return problem_response(
        400,
        title="Invalid Last-Event-ID",
        detail=f"Last-Event-ID is not an id that this stream sends. {form}",
        code="invalid_event_id",
    )
