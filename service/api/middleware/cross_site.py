"""Refuses write requests that a browser sends on behalf of another site's page."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import problem_response

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` of our own pages, and of what a person typed."""


class CrossSiteMiddleware:
    """Answers 403 to a write request whose `Sec-Fetch-Site` or `Origin` names another origin.

    It is for a service without access control, where any page in the user's browser could send
    requests to this machine. Browsers set both headers, and a page cannot change them; programs
    send neither. With access control a request needs a token, which no browser adds by itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if it comes from no other site."""
        if scope["type"] != "http" or scope["method"] in _SAFE_METHODS or not _is_cross_site(scope):
            await self._app(scope, receive, send)
            return
        refusal = problem_response(
            403,
            title="Request of another site",
            detail="A page of another origin sent this request, so it was not executed.",
            code="cross_site_request",
            advice=(
                "Use `tandem`, a program, or the page /docs of this service. For pages of other "
                "origins, turn access control on: TANDEM_AUTH=tokens."
            ),
        )
        await refusal(scope, receive, send)


def _is_cross_site(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in _OWN_SITES:
        return True  # `same-site` is another port of this machine, where others may serve pages
    return origin is not None and _parse_netloc(origin) != headers.get("host", "").lower()


def _parse_netloc(origin: str) -> str:
    """Host and port of an origin; empty for `null`, which a sandboxed page sends."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
