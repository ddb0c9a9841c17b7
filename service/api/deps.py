"""Dependencies that FastAPI injects into endpoints. They are coroutines, because FastAPI calls each
other function in a thread of its own."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, cast

from fastapi import Depends, Request, Response

from service.api.middleware.auth import get_caller, get_driver_number, get_optional_caller
from service.api.streaming.admission import AdmittedStream, StreamGuard
from service.api.streaming.registry import Streams
from service.domain.access import Caller
from service.usecases.audit import AuditedStore, AuditTrail
from service.usecases.context import Context


@dataclass(frozen=True)
class StreamRequest:
    """The caller of a stream, and what streams share."""

    caller: Caller
    key: str
    """What its streams are counted under."""

    streams: Streams
    ctx: Context

    def make_guard(self) -> StreamGuard:
        """A guard of a stream that begins now."""
        return StreamGuard(self.streams.admission, self.caller)

    def admit(self, make_stream: Callable[[], Response]) -> Response:
        """The stream, or a refusal if the caller has too many."""
        return AdmittedStream(make_stream, admission=self.streams.admission, key=self.key)


async def _get_context(request: Request) -> Context:
    """The context of the service; that of an audited request stores its audit entry."""
    ctx = cast("Context", request.app.state.ctx)
    trail = request.scope["state"].get("audit_trail")
    if not isinstance(trail, AuditTrail):
        return ctx
    return replace(ctx, store=AuditedStore(ctx.store, trail))


async def _get_stream_request(request: Request) -> StreamRequest:
    caller = await get_caller(request)
    address = request.client.host if request.client else "nobody"
    key = f"address {address}" if caller.token_id is None else f"token {caller.token_id}"
    streams = cast("Streams", request.app.state.streams)
    return StreamRequest(caller, key, streams, await _get_context(request))


ContextDep = Annotated[Context, Depends(_get_context)]
CallerDep = Annotated[Caller, Depends(get_caller)]
OptionalCallerDep = Annotated[Caller | None, Depends(get_optional_caller)]
DriverDep = Annotated[int | None, Depends(get_driver_number)]
StreamDep = Annotated[StreamRequest, Depends(_get_stream_request)]
