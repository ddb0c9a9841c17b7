"""Authentication, authorization and rate limits: an ASGI middleware in front of all endpoints."""

from dataclasses import dataclass
from urllib.parse import parse_qsl

import structlog
from fastapi.concurrency import run_in_threadpool
from limits import RateLimitItem, parse
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import error_response, problem_response, too_many_response
from service.api.middleware.moving_window import MovingWindow
from service.api.permissions import (
    CROSS_PROJECT_PATHS,
    WORKER_ACCESS,
    Access,
    Endpoint,
    match_endpoint,
)
from service.domain.access import (
    LOCAL_CALLER,
    AttemptToken,
    Caller,
    DriverToken,
    verify_worker_token,
)
from service.domain.errors.base import TandemError
from service.domain.errors.requests import (
    AutopilotNotFound,
    InsufficientRole,
    ProjectForbidden,
    RunNotFound,
    SweepNotFound,
    Unauthenticated,
)
from service.domain.vocabulary import Role
from service.usecases.access import authenticate
from service.usecases.autopilots.queries import get_autopilot
from service.usecases.context import Context
from service.usecases.runs.queries import get_run
from service.usecases.sweeps.launch import get_sweep

_SECRETS_IN_QUERY = frozenset({"token", "access_token", "api_key", "authorization"})


@dataclass(frozen=True)
class RateLimits:
    """How many requests a caller may make."""

    requests: RateLimitItem
    refusals: RateLimitItem
    """Unauthenticated requests from one address."""


def parse_rate_limits(requests: str, refusals: str) -> RateLimits:
    """Limits as in `600/minute`. Raises `ValueError` if one cannot be parsed."""
    return RateLimits(parse(requests), parse(refusals))


class AuthMiddleware:
    """Checks the token of a request, its role and its project, if access control is on.

    It puts the caller into `scope["state"]["caller"]` and, for the endpoints of drivers, the number
    of the driver into `scope["state"]["driver"]`.
    """

    def __init__(self, app: ASGIApp, *, ctx: Context, limits: RateLimits) -> None:
        self._app = app
        self._ctx = ctx
        self._requests = MovingWindow(limits.requests)
        self._refusals = MovingWindow(limits.refusals)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an allowed request on, or answer with a problem document."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            refusal = await self._check_request(scope)
        except TandemError as error:
            refusal = error_response(error)
        await (refusal or self._app)(scope, receive, send)

    async def _check_request(self, scope: Scope) -> Response | None:
        """The response to a refused request. None if the request may pass."""
        if refusal := _refuse_secret_in_query(scope):
            return refusal
        address = scope["client"][0] if scope.get("client") else "nobody"
        endpoint = match_endpoint(scope)
        try:
            rate_key = (
                self._authenticate(scope, endpoint)
                if self._ctx.signing_key is None  # nothing to look up
                else await run_in_threadpool(self._authenticate, scope, endpoint)
            )
        except Unauthenticated:
            if wait_s := self._refusals.hit(address):
                return _too_many_requests(wait_s)
            raise
        # Before the role is checked: requests that are not allowed are limited as well.
        if wait_s := self._requests.hit(rate_key or f"address {address}"):
            return _too_many_requests(wait_s)
        await self._authorize(scope["state"]["caller"], endpoint)
        return None

    def _authenticate(self, scope: Scope, endpoint: Endpoint) -> str | None:
        """Set the caller; return the key that its requests are counted under.

        None if they are counted by address. Raises `Unauthenticated` without a valid token.
        """
        access, state = endpoint.access, scope["state"]
        if self._ctx.signing_key is None:
            state["caller"] = LOCAL_CALLER
            # Each local worker reports every two seconds, so workers are counted by run or sweep.
            subject = endpoint.path_params.get("run_id") or endpoint.path_params.get("sweep_id")
            return f"run {subject}" if access in WORKER_ACCESS else None
        is_brief = access is Access.PUBLIC_BRIEF and not _has_authorization(scope)
        if access is Access.PUBLIC or is_brief:
            state["caller"] = None
            return None
        token_text = _parse_bearer(scope)
        if access in WORKER_ACCESS:
            token = self._verify_worker(token_text, endpoint)
            if isinstance(token, DriverToken):
                subject, state["driver"] = token.sweep_id, token.driver
            else:
                subject, state["driver"] = token.run_id, None
            state["caller"] = Caller(f"worker of {subject}", Role.VIEWER)
            return f"run {subject}"
        caller = authenticate(token_text, ctx=self._ctx)
        state["caller"] = caller
        return f"token {caller.token_id}"

    def _verify_worker(self, token_text: str, endpoint: Endpoint) -> AttemptToken | DriverToken:
        """The worker's token, if it is valid for the run, attempt or sweep in the path."""
        assert self._ctx.signing_key is not None
        params = endpoint.path_params
        attempt = params.get("run_id"), params.get("number")
        match verify_worker_token(token_text, key=self._ctx.signing_key), endpoint.access:
            case DriverToken() as token, Access.DRIVER if token.sweep_id == params.get("sweep_id"):
                return token
            case AttemptToken() as token, Access.ATTEMPT:
                if (token.run_id, str(token.attempt)) == attempt:
                    return token
            case AttemptToken() as token, Access.ANY_ATTEMPT:
                return token
        raise Unauthenticated

    async def _authorize(self, caller: Caller | None, endpoint: Endpoint) -> None:
        """Check the caller's role, and that its project has what the path names."""
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
            await run_in_threadpool(self._check_run_visible, caller, run_id)
        if (sweep_id := endpoint.path_params.get("sweep_id")) is not None:
            await run_in_threadpool(self._check_sweep_visible, caller, sweep_id)
        if (autopilot_id := endpoint.path_params.get("autopilot_id")) is not None:
            await run_in_threadpool(self._check_autopilot_visible, caller, autopilot_id)

    def _check_run_visible(self, caller: Caller, run_id: str) -> None:
        """A run of another project is reported like one that does not exist."""
        if not caller.can_see(get_run(run_id, ctx=self._ctx).project):
            raise RunNotFound(run_id)

    def _check_sweep_visible(self, caller: Caller, sweep_id: str) -> None:
        """A sweep of another project is reported like one that does not exist."""
        if not caller.can_see(get_sweep(sweep_id, ctx=self._ctx).project):
            raise SweepNotFound(sweep_id)

    def _check_autopilot_visible(self, caller: Caller, autopilot_id: str) -> None:
        """An autopilot of another project is reported like one that does not exist."""
        if not caller.can_see(get_autopilot(autopilot_id, ctx=self._ctx).project):
            raise AutopilotNotFound(autopilot_id)


def _too_many_requests(wait_s: float) -> Response:
    retry_after_s = max(1, round(wait_s))
    return too_many_response(
        title="Too many requests",
        detail=f"Retry in {retry_after_s} s.",
        code="too_many_requests",
        retry_after_s=retry_after_s,
    )


def _has_authorization(scope: Scope) -> bool:
    return bool(Headers(scope=scope).get("authorization"))


def _parse_bearer(scope: Scope) -> str:
    scheme, _, token_text = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    return token_text.strip()


def _refuse_secret_in_query(scope: Scope) -> Response | None:
    """URLs end up in logs and in browser histories, so no secret may be part of them."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if not any(key.lower() in _SECRETS_IN_QUERY for key, _ in query):
        return None
    return problem_response(
        400,
        title="Secret in the URL",
        detail="URLs are logged, so a token must not be part of one: send it as a header.",
        code="secret_in_address",
    )


async def get_caller(request: Request) -> Caller:
    """The authenticated caller."""
    caller = request.scope["state"].get("caller")
    assert isinstance(caller, Caller)
    return caller


async def get_optional_caller(request: Request) -> Caller | None:
    """The authenticated caller. None if the endpoint is public and no token was sent."""
    caller = request.scope["state"].get("caller")
    return caller if isinstance(caller, Caller) else None


async def get_driver_number(request: Request) -> int | None:
    """The number of the driver whose token was sent. None if access control is off."""
    number = request.scope["state"].get("driver")
    return number if isinstance(number, int) else None
