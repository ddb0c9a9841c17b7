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

from service.api.errors import error_response, problem_response
from service.api.permissions import CROSS_PROJECT_PATHS, WORKER_ACCESS, Endpoint, match_endpoint
from service.domain.access import LOCAL_CALLER, AttemptToken, Caller, Role, verify_attempt_token
from service.domain.errors import (
    InsufficientRole,
    ProjectForbidden,
    RunNotFound,
    SweepNotFound,
    TandemError,
    Unauthenticated,
)
from service.usecases.access import authenticate
from service.usecases.context import Context
from service.usecases.runs.queries import get_run
from service.usecases.sweeps.launch import get_sweep

_SECRETS_IN_QUERY = frozenset({"token", "access_token", "api_key", "authorization"})


@dataclass(frozen=True)
class RateLimits:
    """How many requests a caller may make."""

    requests: RateLimitItem
    refusals: RateLimitItem
    """Of one address, without a good token."""


def parse_rate_limits(requests: str, refusals: str) -> RateLimits:
    """As in `600/minute`; `ValueError` if it is no rate."""
    return RateLimits(parse(requests), parse(refusals))


class AuthMiddleware:
    """Lets requests in: with a token, its role and its project, if access control is on."""

    def __init__(self, app: ASGIApp, *, ctx: Context, limits: RateLimits) -> None:
        self._app = app
        self._world = ctx
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
            refusal = error_response(error)
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        if refusal := _secret_in_the_address(scope):
            return refusal
        address = scope["client"][0] if scope.get("client") else "nobody"
        endpoint = match_endpoint(scope)
        try:
            who = await run_in_threadpool(self._who, scope, endpoint)
        except Unauthenticated:
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
        least = endpoint.access
        if self._world.signing_key is None:
            scope["state"]["caller"] = LOCAL_CALLER
            # A laptop's own workers report every two seconds each: they are not counted with it.
            about = endpoint.path_params.get("run_id") or endpoint.path_params.get("sweep_id")
            return f"run {about}" if least in WORKER_ACCESS else None
        is_open = least == "anybody" or (least == "anybody, in short" and not _shows(scope))
        if is_open:
            scope["state"]["caller"] = None
            return None
        shown = _bearer(scope)
        if least in WORKER_ACCESS:
            seal = self._sealed(shown, endpoint)
            scope["state"]["caller"] = Caller(f"worker of {seal.run_id}", Role.VIEWER)
            scope["state"]["driver"] = seal.attempt if seal.is_driver else None
            return f"run {seal.run_id}"
        caller = authenticate(shown, ctx=self._world)
        scope["state"]["caller"] = caller
        return f"token {caller.token_id}"

    def _sealed(self, shown: str, endpoint: Endpoint) -> AttemptToken:
        assert self._world.signing_key is not None
        seal = verify_attempt_token(shown, key=self._world.signing_key)
        if seal is None or seal.is_driver != (endpoint.access == "driver"):
            raise Unauthenticated
        if seal.is_driver and endpoint.path_params.get("sweep_id") != seal.run_id:
            raise Unauthenticated
        about = (endpoint.path_params.get("run_id"), endpoint.path_params.get("number"))
        if endpoint.access == "attempt" and about != (seal.run_id, str(seal.attempt)):
            raise Unauthenticated
        return seal

    async def _check(self, caller: Caller | None, endpoint: Endpoint) -> None:
        """The role reaches, and the run is one that exists for the caller."""
        if caller is None or not isinstance(endpoint.access, Role):
            return
        structlog.contextvars.bind_contextvars(actor=caller.name)
        if not caller.has_role(endpoint.access):
            raise InsufficientRole(caller.role, endpoint.access, project=caller.project)
        if caller.project is None:
            return
        if endpoint.path in CROSS_PROJECT_PATHS:
            raise ProjectForbidden("all", caller.project)
        if (run_id := endpoint.path_params.get("run_id")) is not None:
            await run_in_threadpool(self._must_see, caller, run_id)
        if (sweep_id := endpoint.path_params.get("sweep_id")) is not None:
            await run_in_threadpool(self._must_see_sweep, caller, sweep_id)

    def _must_see(self, caller: Caller, run_id: str) -> None:
        """A run of another project is one that does not exist."""
        if not caller.can_see(get_run(run_id, ctx=self._world).project):
            raise RunNotFound(run_id)

    def _must_see_sweep(self, caller: Caller, sweep_id: str) -> None:
        """A sweep of another project is one that does not exist."""
        if not caller.can_see(get_sweep(sweep_id, ctx=self._world).project):
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
        raise Unauthenticated
    return shown.strip()


def _secret_in_the_address(scope: Scope) -> Response | None:
    """An address is written into logs and histories: no secret may be part of it."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if not any(key.lower() in _SECRETS_IN_QUERY for key, _ in query):
        return None
    detail = "A token must not be part of an address, which is logged: send it as a header."
    return problem_response(
        400, title="A secret in the address", detail=detail, code="secret_in_address"
    )


def _later(at: float) -> Response:
    wait_s = max(1, round(at - time.time()))
    response = problem_response(
        429,
        title="Too many requests",
        detail=f"Ask again in {wait_s} s.",
        code="too_many_requests",
    )
    response.headers["Retry-After"] = str(wait_s)
    return response


def get_caller(request: Request) -> Caller:
    """Whom the gate let in."""
    caller = request.scope["state"].get("caller")
    assert isinstance(caller, Caller)
    return caller


def get_optional_caller(request: Request) -> Caller | None:
    """Whom the gate let in; none where it asked for no token and none was shown."""
    caller = request.scope["state"].get("caller")
    return caller if isinstance(caller, Caller) else None


def get_driver_number(request: Request) -> int | None:
    """The number of the driver whose seal was shown; none where access control is off."""
    number = request.scope["state"].get("driver")
    return number if isinstance(number, int) else None
