"""What every answer says to browsers: believe the type, frame nothing, keep nothing."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FOR_ALL = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_DOCS = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "connect-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:"
)
"""Of the page of the API: what lies beside it, and requests to the API itself."""

_REPORT = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "style-src 'unsafe-inline'; img-src data:; font-src data:"
)
"""Of a report, which is one file with its pictures in it, and without scripts."""


class SecurityHeadersMiddleware:
    """Adds them; over https also that it stays with https."""

    def __init__(self, app: ASGIApp, *, is_https: bool) -> None:
        self._app = app
        self._is_https = is_https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer with more headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add(MutableHeaders(scope=message), scope["path"])
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)

    def _add(self, headers: MutableHeaders, path: str) -> None:
        headers.update(_FOR_ALL)
        headers["Content-Security-Policy"] = _policy_of(path)
        if path.startswith("/v1"):
            headers.setdefault("Cache-Control", "no-store")
        if self._is_https:
            headers["Strict-Transport-Security"] = "max-age=31536000"


def _policy_of(path: str) -> str:
    if path == "/docs":
        return _DOCS
    return _REPORT if path.startswith("/v1/") and path.endswith("/report") else _NOTHING
