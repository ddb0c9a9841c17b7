"""Every request has an id: in its answer, in every line that the log has about it, in problems."""

import re
import secrets
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.permissions import match_endpoint
from service.log import redact_secrets

_SANE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_QUIET = ("/healthz", "/readyz", "/metrics")
_OF_WORKERS = ("/deliveries", "/log")

OnResponse = Callable[[str, str, int, float], None]
"""Told of every answer: method, endpoint, status, seconds."""

log = structlog.get_logger(__name__)


class RequestIdMiddleware:
    """Takes the id that comes, if it is one, else makes one; a line for every request."""

    def __init__(self, app: ASGIApp, *, on_response: OnResponse) -> None:
        self._app = app
        self._answered = on_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        came = Headers(scope=scope).get("x-request-id", "")
        is_sane = _SANE.fullmatch(came) and redact_secrets(came) == came
        request_id = came if is_sane else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        began_s, status = time.monotonic(), 500

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, with_id)
            finally:
                took_s = time.monotonic() - began_s
                endpoint = match_endpoint(scope).path or "none"
                self._answered(scope["method"], endpoint, status, took_s)
                _tell(scope, status, took_ms=1000 * took_s)


def _tell(scope: Scope, status: int, *, took_ms: float) -> None:
    path = scope["path"]
    is_quiet = path in _QUIET or path.endswith(_OF_WORKERS)
    say = log.debug if is_quiet and status < 400 else log.info
    say("request", method=scope["method"], path=path, status=status, ms=round(took_ms, 1))
