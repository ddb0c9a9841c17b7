"""The HTTP server: uvicorn with time limits for requests and a limit of connections."""

import asyncio
import resource
import socket
from typing import ClassVar

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_WARNING_INTERVAL_S = 60.0
_OTHER_FILES = 256
"""Open files that are no connections of clients: databases, logs, requests to Ray and MLflow."""

_SHUTDOWN_TIMEOUT_S = 10
_BUSY = (
    b'{"type":"urn:tandem:problem:too_many_connections","title":"Too many connections",'
    b'"status":503,"detail":"The service has as many connections as it may have.",'
    b'"code":"too_many_connections","errors":[],"advice":"Retry in a few seconds."}'
)
_BUSY_RESPONSE = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n"
    b"retry-after: 5\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(_BUSY), _BUSY)
)
_TIMEOUT_RESPONSE = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)

log = structlog.get_logger(__name__)


def run_server(app: ASGIApp, *, host: str, port: int, max_connections: int) -> None:
    """Serve until a signal stops it, with at most `max_connections` connections at a time."""

    protocol = make_protocol(_reserve_files(max_connections))
    uvicorn.run(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        log_level="warning",
        # The middleware `ClientAddressMiddleware` reads the headers of proxies.
        proxy_headers=False,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
    )


class LimitedProtocol(H11Protocol):
    """Closes connections whose request is not complete in time, whose client takes nothing of the
    answer, and those that are too many.

    uvicorn limits the time between two requests of a connection only.
    """

    max_connections: ClassVar[int]
    header_timeout_s: ClassVar[float] = 10.0
    """How long the headers of a request may take, from the connection or the response before."""

    body_timeout_s: ClassVar[float] = 60.0
    """How long the body may take after the headers."""

    send_timeout_s: ClassVar[float] = 60.0
    """How long a client may take no byte of an answer."""

    _warned_at_s: ClassVar[float] = float("-inf")

    _deadline: asyncio.TimerHandle | None = None
    _awaited_state: object = None
    """The client's state that the deadline is for."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit, or refuse the connection."""
        super().connection_made(transport)
        self._limit_sending(transport)
        if len(self.connections) > self.max_connections:
            self._warn_of_limit()
            transport.write(_BUSY_RESPONSE)
            transport.close()
            return
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle the data; the time limit goes on until the awaited part is complete."""
        super().data_received(data)
        self._update_deadline()

    def on_response_complete(self) -> None:
        """Prepare for the next request, whose time limit begins."""
        super().on_response_complete()
        self._update_deadline()

    def _limit_sending(self, transport: asyncio.Transport) -> None:
        """Let the kernel end the connection to a client that takes nothing: it also knows of data
        that waits after the answer, and after the connection was closed here."""
        milliseconds = round(self.send_timeout_s * 1000)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def _warn_of_limit(self) -> None:
        """Log that connections are refused, once a minute: a line for each would fill the disk."""
        if self.loop.time() - LimitedProtocol._warned_at_s > _WARNING_INTERVAL_S:
            LimitedProtocol._warned_at_s = self.loop.time()
            log.warning("connections.refused", limit=self.max_connections)

    def _update_deadline(self) -> None:
        """Start, keep or stop the time limit, by what the client has to send next."""
        state = self.conn.their_state
        if state is self._awaited_state:
            return
        self._cancel_deadline()
        timeouts_s = {h11.IDLE: self.header_timeout_s, h11.SEND_BODY: self.body_timeout_s}
        timeout_s = timeouts_s.get(state)
        if timeout_s is not None and not self.transport.is_closing():
            self._awaited_state = state
            self._deadline = self.loop.call_later(timeout_s, self._close_late)

    def _cancel_deadline(self) -> None:
        self._awaited_state = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_late(self) -> None:
        """Close the connection. A handler that waits for the body sees that the client is gone."""
        if not self.transport.is_closing():
            log.debug("connection.timed_out", address=self.client[0] if self.client else "")
            if self.cycle is None or not self.cycle.response_started:
                self.transport.write(_TIMEOUT_RESPONSE)
            self.transport.close()


def make_protocol(max_connections: int) -> type[LimitedProtocol]:
    """The protocol with a limit of connections; uvicorn creates its instances."""
    return type("Protocol", (LimitedProtocol,), {"max_connections": max_connections})


def _reserve_files(max_connections: int) -> int:
    """Raise the process's limit of open files; returns how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + _OTHER_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and limit > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = limit
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max_connections
    allowed = max(1, soft - _OTHER_FILES)
    log.warning("connections.limited", wanted=max_connections, allowed=allowed, open_files=soft)
    return allowed
