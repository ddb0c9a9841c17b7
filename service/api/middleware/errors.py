"""Turns exceptions that no handler took into problem documents (RFC 9457)."""

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import handle_unexpected_error


class ErrorMiddleware:
    """Answers unexpected exceptions with 500.

    Starlette's own handler runs outside of all middlewares; this one runs inside of those that add
    headers and ids to every response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer an exception that precedes the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def send_tracked(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_tracked)
        except Exception as error:
            if has_started:
                raise
            await handle_unexpected_error(Request(scope), error)(scope, receive, send)
