"""Who may call each endpoint: one table. A test refuses an endpoint that is missing in it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from starlette.routing import compile_path
from starlette.types import Scope

from service.domain.vocabulary import Role


class Access(StrEnum):
    """Endpoints that need no role: open ones, and those of workers, which have their own tokens."""

    PUBLIC = "public"
    PUBLIC_BRIEF = "public_brief"
    """Open too, but the answer says less to a caller without a token."""

    ATTEMPT = "attempt"
    """The worker of the attempt in the path, by its attempt token."""

    ANY_ATTEMPT = "any_attempt"
    """Any worker, by its attempt token."""

    DRIVER = "driver"
    """A driver of the sweep in the path, by its token."""


_VIEWER, _RUNNER, _ADMIN = Role.VIEWER, Role.RUNNER, Role.ADMIN

ENDPOINT_ACCESS: Final[dict[tuple[str, str], Role | Access]] = {
    ("GET", "/healthz"): Access.PUBLIC,
    ("GET", "/readyz"): Access.PUBLIC_BRIEF,
    ("GET", "/"): Access.PUBLIC,
    ("GET", "/docs"): Access.PUBLIC,
    ("GET", "/docs/{name}"): Access.PUBLIC,
    ("GET", "/openapi.json"): Access.PUBLIC,
    ("GET", "/metrics"): _VIEWER,
    ("POST", "/v1/runs"): _RUNNER,
    ("POST", "/v1/runs:plan"): _VIEWER,
    ("GET", "/v1/runs"): _VIEWER,
    ("GET", "/v1/runs/{run_id}"): _VIEWER,
    ("GET", "/v1/runs/{run_id}/events"): _VIEWER,
    ("GET", "/v1/runs/{run_id}/attempts"): _VIEWER,
    ("GET", "/v1/runs/{run_id}/metrics"): _VIEWER,
    ("GET", "/v1/runs/{run_id}/loss-budget"): _VIEWER,
    ("GET", "/v1/runs/{run_id}/logs"): _VIEWER,
    ("GET", "/v1/runs/{run_id}/report"): _VIEWER,
    ("GET", "/v1/runs/{run_id}/noise"): _VIEWER,
    ("POST", "/v1/runs/{run_id}:report"): _RUNNER,
    ("POST", "/v1/runs/{run_id}:cancel"): _RUNNER,
    ("POST", "/v1/runs/{run_id}:pause"): _RUNNER,
    ("POST", "/v1/runs/{run_id}:resume"): _RUNNER,
    ("POST", "/v1/runs/{run_id}:retry"): _RUNNER,
    ("POST", "/v1/runs/{run_id}:prioritize"): _RUNNER,
    ("POST", "/v1/runs/{run_id}:repeat"): _RUNNER,
    ("POST", "/v1/runs/{run_id}/attempts/{number}/deliveries"): Access.ATTEMPT,
    ("POST", "/v1/runs/{run_id}/attempts/{number}/log"): Access.ATTEMPT,
    ("POST", "/v1/attempts:over"): Access.ANY_ATTEMPT,
    ("POST", "/v1/sweeps"): _RUNNER,
    ("POST", "/v1/sweeps:plan"): _VIEWER,
    ("GET", "/v1/sweeps"): _VIEWER,
    ("GET", "/v1/sweeps/{sweep_id}"): _VIEWER,
    ("GET", "/v1/sweeps/{sweep_id}/trials"): _VIEWER,
    ("GET", "/v1/sweeps/{sweep_id}/report"): _VIEWER,
    ("GET", "/v1/autopilots/{autopilot_id}/report"): _VIEWER,
    ("POST", "/v1/sweeps/{sweep_id}:stop"): _RUNNER,
    ("POST", "/v1/sweeps/{sweep_id}:extend"): _RUNNER,
    ("POST", "/v1/sweeps/{sweep_id}:promote"): _RUNNER,
    ("GET", "/v1/sweeps/{sweep_id}/log"): Access.DRIVER,
    ("POST", "/v1/sweeps/{sweep_id}/log"): Access.DRIVER,
    ("GET", "/v1/sweeps/{sweep_id}/standings"): Access.DRIVER,
    ("POST", "/v1/autopilots"): _RUNNER,
    ("GET", "/v1/autopilots"): _VIEWER,
    ("GET", "/v1/autopilots/{autopilot_id}"): _VIEWER,
    ("GET", "/v1/autopilots/{autopilot_id}/decisions"): _VIEWER,
    ("POST", "/v1/autopilots/{autopilot_id}:pause"): _RUNNER,
    ("POST", "/v1/autopilots/{autopilot_id}:resume"): _RUNNER,
    ("POST", "/v1/autopilots/{autopilot_id}:stop"): _RUNNER,
    ("POST", "/v1/autopilots/{autopilot_id}:extend"): _RUNNER,
    ("POST", "/v1/evaluations"): _RUNNER,
    ("GET", "/v1/evaluations"): _VIEWER,
    ("GET", "/v1/evaluations/{run_id}"): _VIEWER,
    ("POST", "/v1/exports"): _RUNNER,
    ("GET", "/v1/exports"): _VIEWER,
    ("GET", "/v1/exports/{run_id}"): _VIEWER,
    ("GET", "/v1/events"): _VIEWER,
    ("GET", "/v1/events/stream"): _VIEWER,
    ("POST", "/v1/datasets"): _RUNNER,
    ("GET", "/v1/datasets"): _VIEWER,
    ("GET", "/v1/datasets/{name}"): _VIEWER,
    ("GET", "/v1/datasets/{name}/statistics"): _VIEWER,
    ("POST", "/v1/teachers"): _RUNNER,
    ("GET", "/v1/teachers"): _VIEWER,
    ("GET", "/v1/teachers/{name}"): _VIEWER,
    ("GET", "/v1/presets"): _VIEWER,
    ("GET", "/v1/methods"): _VIEWER,
    ("POST", "/v1/methods:refresh"): _RUNNER,
    ("GET", "/v1/projects"): _VIEWER,
    ("GET", "/v1/projects/{name}"): _VIEWER,
    ("PUT", "/v1/projects/{name}"): _ADMIN,
    ("POST", "/v1/tokens"): _ADMIN,
    ("GET", "/v1/tokens"): _ADMIN,
    ("DELETE", "/v1/tokens/{token_id}"): _ADMIN,
    ("GET", "/v1/audit"): _ADMIN,
}

WORKER_ACCESS: Final = frozenset({Access.ATTEMPT, Access.ANY_ATTEMPT, Access.DRIVER})

CROSS_PROJECT_PATHS: Final = frozenset({"/metrics"})
"""Endpoints that show every project: a token that is limited to one project is refused."""

UNAUDITED_PATHS: Final = frozenset({"/v1/runs:plan", "/v1/sweeps:plan"})
"""POST endpoints that change nothing."""


@dataclass(frozen=True)
class Endpoint:
    """The endpoint that a request matches."""

    path: str | None
    """The path template of the table. None if there is no such endpoint."""

    access: Role | Access
    """The role that the caller needs at least, or whose endpoint it is."""

    path_params: dict[str, str]


def match_endpoint(scope: Scope) -> Endpoint:
    """The endpoint of a request. An unknown path needs a role as well, so that callers without a
    token do not learn which paths exist."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    for endpoint_method, path, pattern, access in _ENDPOINTS:
        if endpoint_method == method and (match := pattern.match(scope["path"])):
            return Endpoint(path, access, match.groupdict())
    return Endpoint(None, Role.VIEWER, {})


_ENDPOINTS = [
    (method, path, compile_path(path)[0], access)
    for (method, path), access in ENDPOINT_ACCESS.items()
]
