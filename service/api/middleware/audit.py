"""Every request of a person that was to change something leaves a line, whatever was answered."""

import re

import structlog
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.permissions import UNAUDITED_PATHS, WORKER_ACCESS, match_endpoint
from service.domain.access import AuditEntry, Caller
from service.log import redact_secrets
from service.usecases.access import write_audit
from service.usecases.context import Context

_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_TOO_MANY_REQUESTS = 429
_LONGEST = 2000
_RUN = re.compile(r"/v1/runs/(r[0-9a-z]{12})(?:[:/]|$)")

log = structlog.get_logger(__name__)


class AuditMiddleware:
    """Writes the line after the answer: who, what, and how it was answered; never what was sent."""

    def __init__(self, app: ASGIApp, *, ctx: Context) -> None:
        self._app = app
        self._world = ctx

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note its status."""
        if scope["type"] != "http" or not _is_to_be_noted(scope):
            await self._app(scope, receive, send)
            return
        status, launched = 500, None

        async def noting(message: Message) -> None:
            nonlocal status, launched
            if message["type"] == "http.response.start":
                status = message["status"]
                launched = Headers(raw=message["headers"]).get("location")
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # What came too often was not looked at: a line for each would fill the disk.
            if status != _TOO_MANY_REQUESTS:
                await run_in_threadpool(self._write, scope, status, launched)

    def _write(self, scope: Scope, status: int, launched: str | None) -> None:
        caller = scope["state"].get("caller")
        caller = caller if isinstance(caller, Caller) else None
        entry = AuditEntry(
            at=self._world.clock.now(),
            actor="nobody" if caller is None else caller.name,
            method=scope["method"],
            path=_as_kept(scope["path"]),
            status=status,
            request_id=scope["state"].get("request_id", ""),
            address=scope["client"][0] if scope.get("client") else "",
            run_id=_run_of(launched or scope["path"]),
            token_id=None if caller is None else caller.token_id,
        )
        try:
            write_audit(entry, ctx=self._world)
        except Exception as error:  # the answer is on its way, and is right whatever happens here
            log.exception("audit.lost", **{**vars(entry), "at": str(entry.at)}, why=str(error))


def _is_to_be_noted(scope: Scope) -> bool:
    if scope["method"] not in _CHANGES:
        return False
    endpoint = match_endpoint(scope)
    return endpoint.path not in UNAUDITED_PATHS and endpoint.access not in WORKER_ACCESS


def _run_of(path: str) -> str | None:
    found = _RUN.match(path)
    return None if found is None else found[1]


def _as_kept(path: str) -> str:
    """A path may be anything: it may hold a token by mistake, and what no database takes."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in path[:_LONGEST])
    return redact_secrets(printable)
