"""Turns exceptions that no handler took into problem documents (RFC 9457)."""

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import handle_unexpected_error


class ErrorMiddleware:
    """Answers what nobody has thought of, inside of what adds headers and ids to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; a fault before the answer has begun becomes one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if has_begun:
                raise
            await handle_unexpected_error(Request(scope), error)(scope, receive, send)
