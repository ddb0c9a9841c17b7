"""Refuses requests with too large a body, or with a foreign Host header."""

from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import problem_response
from service.api.permissions import WORKER_ACCESS, match_endpoint

MAX_BODY_BYTES = 256 * 1024
"""The largest body of a person's request: a sweep with 256 initial points has a tenth of it."""

MAX_WORKER_BODY_BYTES = 8 * 1024 * 1024
"""The largest body of a worker's request: 500 records of its spool."""


class BodySizeLimitMiddleware:
    """Refuses bodies that are too large for their endpoint, with or without a Content-Length
    header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the announced length, and count the bytes as they are received."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_worker = match_endpoint(scope).access in WORKER_ACCESS
        max_bytes = MAX_WORKER_BODY_BYTES if is_worker else MAX_BODY_BYTES
        detail = f"A request body may have at most {max_bytes} bytes here."
        headers = dict(scope["headers"])
        content_length = headers.get(b"content-length", b"0")
        if not content_length.isdigit() or int(content_length) > max_bytes:
            refusal = problem_response(
                413, title="Request body too large", detail=detail, code="body_too_large"
            )
            await refusal(scope, receive, send)
            return
        received_bytes = 0

        async def receive_counted() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > max_bytes:
                # FastAPI lets this exception through wherever it reads the body.
                raise HTTPException(413, detail)
            return message

        await self._app(scope, receive_counted, send)


class TrustedHostMiddleware:
    """Refuses requests whose Host header is not one of `hosts`.

    Prevents DNS rebinding: without access control a web page in the user's browser could otherwise
    reach the API through a host name of its own that resolves to this machine.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if its host is allowed, else answer 421."""
        if scope["type"] != "http" or _parse_host(scope) in self._hosts:
            await self._app(scope, receive, send)
            return
        allowed = ", ".join(sorted(self._hosts))
        detail = f"The allowed hosts are {allowed}; set TANDEM_PUBLIC_URL to add one."
        refusal = problem_response(421, title="Host not allowed", detail=detail, code="other_host")
        await refusal(scope, receive, send)


def _parse_host(scope: Scope) -> str:
    header = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
