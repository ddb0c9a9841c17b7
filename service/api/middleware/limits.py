"""What a request may be: of a bounded size, and meant for us."""

from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import problem_response

MAX_BODY_BYTES = 8 * 1024 * 1024
_TOO_LARGE = f"A body may have {MAX_BODY_BYTES} bytes."


class BodySizeLimitMiddleware:
    """Refuses bodies over `MAX_BODY_BYTES`, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if it says that it is small enough, and count what comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > MAX_BODY_BYTES:
            refusal = problem_response(
                413, title="The body is too large", detail=_TOO_LARGE, code="body_too_large"
            )
            await refusal(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                # FastAPI passes this on from wherever it reads the body.
                raise HTTPException(413, _TOO_LARGE)
            return message

        await self._app(scope, counted, send)


class TrustedHostMiddleware:
    """Refuses requests that were sent to a name which is not ours.

    Where access control is off, a web page in the user's browser could otherwise reach the API
    through a name of its own that resolves to this machine.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if its Host header names us."""
        if scope["type"] != "http" or _host_of(scope) in self._hosts:
            await self._app(scope, receive, send)
            return
        known = ", ".join(sorted(self._hosts))
        detail = f"This service answers to {known}; TANDEM_PUBLIC_URL adds a name."
        refusal = problem_response(
            421, title="The host is another one", detail=detail, code="other_host"
        )
        await refusal(scope, receive, send)


def _host_of(scope: Scope) -> str:
    header = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    return urlsplit(f"//{header}").hostname or ""
