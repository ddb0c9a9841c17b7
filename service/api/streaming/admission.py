"""Limits of streams: their number for each token, their duration, and that the token is valid."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.errors import too_many_response
from service.domain.access import Caller
from service.domain.errors.systems import DatabaseUnreachable
from service.usecases.access import is_token_valid
from service.usecases.context import Context

_RETRY_AFTER_S = 30


@dataclass(frozen=True)
class StreamLimits:
    """What streams may use."""

    max_per_token: int = 20
    """Of one address while access control is off."""

    max_duration_s: float = 3600.0
    """A stream ends after this long; its client reconnects with the id of the last event."""

    check_interval_s: float = 2.5
    """Age of the last look at a token at which it is looked at again; streams ask as often."""

    poll_interval_s: float = 0.5
    """Pause between two polls of the database, for all streams together."""


DEFAULT_LIMITS: Final = StreamLimits()


@dataclass
class _TokenCheck:
    """The last look at a token."""

    started_at_s: float
    task: asyncio.Task[bool]


@dataclass
class StreamAdmission:
    """Counts the open streams of each token, and checks the tokens again."""

    ctx: Context
    limits: StreamLimits = DEFAULT_LIMITS
    _open: Counter[str] = field(default_factory=Counter)
    _checks: dict[str, _TokenCheck] = field(default_factory=dict)

    def open(self, key: str) -> bool:
        """Count a stream of a token or an address; False if it has as many as it may."""
        if self._open[key] >= self.limits.max_per_token:
            return False
        self._open[key] += 1
        return True

    def close(self, key: str) -> None:
        """Count a stream as ended."""
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
            self._checks.pop(key, None)

    async def is_still_valid(self, token_id: str) -> bool:
        """Whether the token is neither revoked nor expired; all streams of a token share a look.

        While the database does not answer, it is taken for valid.
        """
        now_s = time.monotonic()
        check = self._checks.get(token_id)
        if check is None or now_s - check.started_at_s >= self.limits.check_interval_s:
            check = _TokenCheck(now_s, asyncio.create_task(self._look_up(token_id)))
            self._checks[token_id] = check
        return await asyncio.shield(check.task)

    async def _look_up(self, token_id: str) -> bool:
        try:
            return await run_in_threadpool(is_token_valid, token_id, ctx=self.ctx)
        except DatabaseUnreachable:
            return True


class StreamGuard:
    """Says whether one stream may continue."""

    def __init__(self, admission: StreamAdmission, caller: Caller) -> None:
        self._admission = admission
        self._token_id = caller.token_id
        self._checked_at_s = time.monotonic()
        self._ends_at_s = self._checked_at_s + admission.limits.max_duration_s

    @property
    def wait_s(self) -> float:
        """How long the stream may wait for news before it asks `may_continue` again."""
        return self._admission.limits.check_interval_s

    async def may_continue(self) -> bool:
        """False after the longest duration, and once the token is revoked or has expired."""
        now_s = time.monotonic()
        if now_s >= self._ends_at_s:
            return False
        if self._token_id is None or now_s - self._checked_at_s < self.wait_s:
            return True
        self._checked_at_s = now_s
        return await self._admission.is_still_valid(self._token_id)


class AdmittedStream(Response):
    """A streaming response that is counted while it is sent, or refused with 429."""

    def __init__(
        self, make_stream: Callable[[], Response], *, admission: StreamAdmission, key: str
    ) -> None:
        super().__init__()
        self._make_stream = make_stream
        self._admission = admission
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, or the problem that the token has too many."""
        if not self._admission.open(self._key):
            await self._refuse()(scope, receive, send)
            return
        try:
            await self._make_stream()(scope, receive, send)
        finally:
            self._admission.close(self._key)

    def _refuse(self) -> Response:
        number = self._admission.limits.max_per_token
        return too_many_response(
            title="Too many streams",
            detail=f"A token may have {number} open streams at a time. Close one of them.",
            code="too_many_streams",
            retry_after_s=_RETRY_AFTER_S,
        )
