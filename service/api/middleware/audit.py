"""Records every write request of a person in the audit log, whatever its outcome."""

import re
from functools import partial

import structlog
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.permissions import UNAUDITED_PATHS, WORKER_ACCESS, match_endpoint
from service.domain.access import AuditEntry, Caller
from service.log import redact_secrets
from service.usecases.audit import STATUS_UNKNOWN, AuditTrail
from service.usecases.context import Context

_WRITE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_TOO_MANY_REQUESTS = 429
_MAX_PATH_LENGTH = 2000
_RUN_PATH = re.compile(r"/v1/runs/(r[0-9a-z]{12})(?:[:/]|$)")

log = structlog.get_logger(__name__)


class AuditMiddleware:
    """Writes an entry for each request: caller, endpoint and status, never the request's body.

    The entry is written in the transaction of the change, so that there is no change without it;
    for a request that changes nothing, after the response.
    """

    def __init__(self, app: ASGIApp, *, ctx: Context) -> None:
        self._app = app
        self._ctx = ctx

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, then complete its audit entry if it is a write request."""
        if scope["type"] != "http" or not _is_audited(scope):
            await self._app(scope, receive, send)
            return
        status, location = 500, None
        trail = AuditTrail(partial(self._make_entry, scope))
        scope["state"]["audit_trail"] = trail

        async def send_tracked(message: Message) -> None:
            nonlocal status, location
            if message["type"] == "http.response.start":
                status = message["status"]
                location = Headers(raw=message["headers"]).get("location")
            await send(message)

        try:
            await self._app(scope, receive, send_tracked)
        finally:
            # Rate-limited requests had no effect, and one entry for each would fill the disk.
            if status != _TOO_MANY_REQUESTS:
                run_id = _parse_run_id(location or scope["path"])
                if not trail.is_complete(status, run_id=run_id):
                    await run_in_threadpool(self._complete, trail, scope, status, run_id)

    def _make_entry(self, scope: Scope) -> AuditEntry:
        caller = scope["state"].get("caller")
        caller = caller if isinstance(caller, Caller) else None
        return AuditEntry(
            at=self._ctx.clock.now(),
            actor="nobody" if caller is None else caller.name,
            method=scope["method"],
            path=_clean_path(scope["path"]),
            status=STATUS_UNKNOWN,
            request_id=scope["state"].get("request_id", ""),
            address=scope["client"][0] if scope.get("client") else "",
            run_id=_parse_run_id(scope["path"]),
            token_id=None if caller is None else caller.token_id,
        )

    def _complete(self, trail: AuditTrail, scope: Scope, status: int, run_id: str | None) -> None:
        try:
            trail.complete(status, run_id=run_id, ctx=self._ctx)
        except Exception as error:  # the response is sent already and stays valid
            entry = {**vars(self._make_entry(scope)), "status": status, "run_id": run_id}
            log.exception("audit.write_failed", **{**entry, "at": str(entry["at"])}, why=str(error))


def _is_audited(scope: Scope) -> bool:
    if scope["method"] not in _WRITE_METHODS:
        return False
    endpoint = match_endpoint(scope)
    return endpoint.path not in UNAUDITED_PATHS and endpoint.access not in WORKER_ACCESS


def _parse_run_id(path: str) -> str | None:
    match = _RUN_PATH.match(path)
    return None if match is None else match[1]


def _clean_path(path: str) -> str:
    """A path is arbitrary input: remove secrets and characters that a database refuses."""
    printable = "".join(char if char.isprintable() else "?" for char in path[:_MAX_PATH_LENGTH])
    return redact_secrets(printable)
