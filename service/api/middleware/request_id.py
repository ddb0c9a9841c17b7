"""Gives every request an id, which its response and all of its log lines carry."""

import re
import secrets
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.permissions import match_endpoint
from service.log import redact_secrets

_VALID_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DEBUG_PATHS = ("/healthz", "/readyz", "/metrics")
_DEBUG_SUFFIXES = ("/deliveries", "/log")

OnResponse = Callable[[str, str, int, float], None]
"""Called after every response with method, path template, status and seconds."""

log = structlog.get_logger(__name__)


class RequestIdMiddleware:
    """Takes a valid `X-Request-ID` from the request, or makes one; logs every request.

    The frequent requests of probes and workers are logged at the debug level unless they fail.
    """

    def __init__(self, app: ASGIApp, *, on_response: OnResponse) -> None:
        self._app = app
        self._on_response = on_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id, then log and count the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received_id = Headers(scope=scope).get("x-request-id", "")
        is_valid = _VALID_ID.fullmatch(received_id) and redact_secrets(received_id) == received_id
        request_id = received_id if is_valid else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started_s, status = time.monotonic(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                duration_s = time.monotonic() - started_s
                endpoint = match_endpoint(scope).path or "none"
                self._on_response(scope["method"], endpoint, status, duration_s)
                _log_request(scope, status, duration_ms=1000 * duration_s)


def _log_request(scope: Scope, status: int, *, duration_ms: float) -> None:
    path = scope["path"]
    is_frequent = path in _DEBUG_PATHS or path.endswith(_DEBUG_SUFFIXES)
    emit = log.debug if is_frequent and status < 400 else log.info
    emit("request", method=scope["method"], path=path, status=status, ms=round(duration_ms, 1))
