"""Who comes in, how often, and which run they see: decided before an endpoint hears of it."""

import time
from dataclasses import dataclass
from urllib.parse import parse_qsl

import structlog
from fastapi.concurrency import run_in_threadpool
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import answer_to, problem
from service.api.permissions import OF_ALL_PROJECTS, OF_WORKERS, Endpoint, endpoint_of
from service.domain.access import LOCAL, AttemptSeal, Caller, Role, seal_from
from service.domain.errors import (
    NotLetIn,
    OtherProject,
    RoleTooSmall,
    RunNotFound,
    SweepNotFound,
    TandemError,
)
from service.usecases.access import who_shows
from service.usecases.context import World
from service.usecases.runs.queries import show_run
from service.usecases.sweeps.launch import show_sweep

_SECRETS_IN_QUERY = frozenset({"token", "access_token", "api_key", "authorization"})


@dataclass(frozen=True)
class Limits:
    """How many requests a caller may make."""

    requests: RateLimitItem
    refusals: RateLimitItem
    """Of one address, without a good token."""


def limits_from(requests: str, refusals: str) -> Limits:
    """As in `600/minute`; `ValueError` if it is no rate."""
    return Limits(parse(requests), parse(refusals))


class Gate:
    """Lets requests in: with a token, its role and its project, if access control is on."""

    def __init__(self, app: ASGIApp, *, world: World, limits: Limits) -> None:
        self._app = app
        self._world = world
        self._limits = limits
        self._counter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its caller, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            refusal = await self._refusal(scope)
        except TandemError as error:
            refusal = answer_to(error)
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        if refusal := _secret_in_the_address(scope):
            return refusal
        address = scope["client"][0] if scope.get("client") else "nobody"
        endpoint = endpoint_of(scope)
        try:
            who = await run_in_threadpool(self._who, scope, endpoint)
        except NotLetIn:
            if not self._counter.hit(self._limits.refusals, address):
                return _later(self._counter.get_window_stats(self._limits.refusals, address)[0])
            raise
        # Before the role is looked at: who may not do a thing may not ask without end either.
        if refusal := self._too_often(who or f"address {address}"):
            return refusal
        await self._check(scope["state"]["caller"], endpoint)
        return None

    def _who(self, scope: Scope, endpoint: Endpoint) -> str | None:
        """Note the caller; returns whose requests are counted together, if not an address's."""
        least = endpoint.least
        if self._world.key is None:
            scope["state"]["caller"] = LOCAL
            # A laptop's own workers report every two seconds each: they are not counted with it.
            about = endpoint.named.get("run_id") or endpoint.named.get("sweep_id")
            return f"run {about}" if least in OF_WORKERS else None
        is_open = least == "anybody" or (least == "anybody, in short" and not _shows(scope))
        if is_open:
            scope["state"]["caller"] = None
            return None
        shown = _bearer(scope)
        if least in OF_WORKERS:
            seal = self._sealed(shown, endpoint)
            scope["state"]["caller"] = Caller(f"worker of {seal.run_id}", Role.VIEWER)
            scope["state"]["driver"] = seal.attempt if seal.is_of_driver else None
            return f"run {seal.run_id}"
        caller = who_shows(shown, world=self._world)
        scope["state"]["caller"] = caller
        return f"token {caller.token_id}"

    def _sealed(self, shown: str, endpoint: Endpoint) -> AttemptSeal:
        assert self._world.key is not None
        seal = seal_from(shown, key=self._world.key)
        if seal is None or seal.is_of_driver != (endpoint.least == "driver"):
            raise NotLetIn
        if seal.is_of_driver and endpoint.named.get("sweep_id") != seal.run_id:
            raise NotLetIn
        about = (endpoint.named.get("run_id"), endpoint.named.get("number"))
        if endpoint.least == "attempt" and about != (seal.run_id, str(seal.attempt)):
            raise NotLetIn
        return seal

    async def _check(self, caller: Caller | None, endpoint: Endpoint) -> None:
        """The role reaches, and the run is one that exists for the caller."""
        if caller is None or not isinstance(endpoint.least, Role):
            return
        structlog.contextvars.bind_contextvars(actor=caller.name)
        if not caller.may_do_what(endpoint.least):
            raise RoleTooSmall(caller.role, endpoint.least, project=caller.project)
        if caller.project is None:
            return
        if endpoint.path in OF_ALL_PROJECTS:
            raise OtherProject("all", caller.project)
        if (run_id := endpoint.named.get("run_id")) is not None:
            await run_in_threadpool(self._must_see, caller, run_id)
        if (sweep_id := endpoint.named.get("sweep_id")) is not None:
            await run_in_threadpool(self._must_see_sweep, caller, sweep_id)

    def _must_see(self, caller: Caller, run_id: str) -> None:
        """A run of another project is one that does not exist."""
        if not caller.sees(show_run(run_id, world=self._world).project):
            raise RunNotFound(run_id)

    def _must_see_sweep(self, caller: Caller, sweep_id: str) -> None:
        """A sweep of another project is one that does not exist."""
        if not caller.sees(show_sweep(sweep_id, world=self._world).project):
            raise SweepNotFound(sweep_id)

    def _too_often(self, who: str) -> Response | None:
        if self._counter.hit(self._limits.requests, who):
            return None
        return _later(self._counter.get_window_stats(self._limits.requests, who)[0])


def _shows(scope: Scope) -> bool:
    return bool(Headers(scope=scope).get("authorization"))


def _bearer(scope: Scope) -> str:
    kind, _, shown = Headers(scope=scope).get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        raise NotLetIn
    return shown.strip()


def _secret_in_the_address(scope: Scope) -> Response | None:
    """An address is written into logs and histories: no secret may be part of it."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if not any(key.lower() in _SECRETS_IN_QUERY for key, _ in query):
        return None
    detail = "A token must not be part of an address, which is logged: send it as a header."
    return problem(400, title="A secret in the address", detail=detail, code="secret_in_address")


def _later(at: float) -> Response:
    wait_s = max(1, round(at - time.time()))
    response = problem(
        429,
        title="Too many requests",
        detail=f"Ask again in {wait_s} s.",
        code="too_many_requests",
    )
    response.headers["Retry-After"] = str(wait_s)
    return response


def caller_of(request: Request) -> Caller:
    """Whom the gate let in."""
    caller = request.scope["state"].get("caller")
    assert isinstance(caller, Caller)
    return caller


def known_caller_of(request: Request) -> Caller | None:
    """Whom the gate let in; none where it asked for no token and none was shown."""
    caller = request.scope["state"].get("caller")
    return caller if isinstance(caller, Caller) else None


def driver_of(request: Request) -> int | None:
    """The number of the driver whose seal was shown; none where access control is off."""
    number = request.scope["state"].get("driver")
    return number if isinstance(number, int) else None
