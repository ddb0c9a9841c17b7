"""Adds security headers to every response: content types, framing, caching, script sources."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_DEFAULT_POLICY = "default-src 'none'; frame-ancestors 'none'"
_DOCS_POLICY = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "connect-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:"
)
"""The API's documentation page: files and requests of the same origin."""

_REPORT_POLICY = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    "style-src 'unsafe-inline'; img-src data:; font-src data:"
)
"""A report is one file with inline styles and pictures, and without scripts."""


class SecurityHeadersMiddleware:
    """Adds the headers; over https also Strict-Transport-Security."""

    def __init__(self, app: ASGIApp, *, is_https: bool) -> None:
        self._app = app
        self._is_https = is_https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the headers to the response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)

    def _add_headers(self, headers: MutableHeaders, path: str) -> None:
        headers.update(_COMMON_HEADERS)
        headers["Content-Security-Policy"] = _content_security_policy(path)
        if path.startswith("/v1"):
            headers.setdefault("Cache-Control", "no-store")
        if self._is_https:
            headers["Strict-Transport-Security"] = "max-age=31536000"


def _content_security_policy(path: str) -> str:
    if path == "/docs":
        return _DOCS_POLICY
    is_report = path.startswith("/v1/") and path.endswith("/report")
    return _REPORT_POLICY if is_report else _DEFAULT_POLICY
