"""The least role for every endpoint: one table. A test refuses an endpoint that is not in it."""

from dataclasses import dataclass
from typing import Final, Literal

from starlette.routing import compile_path
from starlette.types import Scope

from service.domain.access import Role

Access = Role | Literal["anybody", "anybody, in short", "attempt", "any attempt", "driver"]
"""`anybody, in short`: without a token it says less. `attempt`: the worker of the attempt in the
path, by its seal; `any attempt`: any worker. `driver`: a driver of the sweep in the path."""

_LOOK, _RUN, _ADMIN = Role.VIEWER, Role.RUNNER, Role.ADMIN

ENDPOINT_ACCESS: Final[dict[tuple[str, str], Access]] = {
    ("GET", "/healthz"): "anybody",
    ("GET", "/readyz"): "anybody, in short",
    ("GET", "/docs"): "anybody",
    ("GET", "/docs/{name}"): "anybody",
    ("GET", "/openapi.json"): "anybody",
    ("GET", "/metrics"): _LOOK,
    ("POST", "/v1/runs"): _RUN,
    ("POST", "/v1/runs:plan"): _LOOK,
    ("GET", "/v1/runs"): _LOOK,
    ("GET", "/v1/runs/{run_id}"): _LOOK,
    ("GET", "/v1/runs/{run_id}/events"): _LOOK,
    ("GET", "/v1/runs/{run_id}/attempts"): _LOOK,
    ("GET", "/v1/runs/{run_id}/metrics"): _LOOK,
    ("GET", "/v1/runs/{run_id}/loss-budget"): _LOOK,
    ("GET", "/v1/runs/{run_id}/logs"): _LOOK,
    ("GET", "/v1/runs/{run_id}/report"): _LOOK,
    ("GET", "/v1/runs/{run_id}/noise"): _LOOK,
    ("POST", "/v1/runs/{run_id}:report"): _RUN,
    ("POST", "/v1/runs/{run_id}:cancel"): _RUN,
    ("POST", "/v1/runs/{run_id}:pause"): _RUN,
    ("POST", "/v1/runs/{run_id}:resume"): _RUN,
    ("POST", "/v1/runs/{run_id}:retry"): _RUN,
    ("POST", "/v1/runs/{run_id}:prioritize"): _RUN,
    ("POST", "/v1/runs/{run_id}:repeat"): _RUN,
    ("POST", "/v1/runs/{run_id}/attempts/{number}/deliveries"): "attempt",
    ("POST", "/v1/runs/{run_id}/attempts/{number}/log"): "attempt",
    ("POST", "/v1/attempts:over"): "any attempt",
    ("POST", "/v1/sweeps"): _RUN,
    ("POST", "/v1/sweeps:plan"): _LOOK,
    ("GET", "/v1/sweeps"): _LOOK,
    ("GET", "/v1/sweeps/{sweep_id}"): _LOOK,
    ("GET", "/v1/sweeps/{sweep_id}/trials"): _LOOK,
    ("GET", "/v1/sweeps/{sweep_id}/report"): _LOOK,
    ("POST", "/v1/sweeps/{sweep_id}:stop"): _RUN,
    ("POST", "/v1/sweeps/{sweep_id}:extend"): _RUN,
    ("POST", "/v1/sweeps/{sweep_id}:promote"): _RUN,
    ("GET", "/v1/sweeps/{sweep_id}/log"): "driver",
    ("POST", "/v1/sweeps/{sweep_id}/log"): "driver",
    ("GET", "/v1/sweeps/{sweep_id}/standings"): "driver",
    ("POST", "/v1/evaluations"): _RUN,
    ("GET", "/v1/evaluations"): _LOOK,
    ("GET", "/v1/evaluations/{run_id}"): _LOOK,
    ("POST", "/v1/exports"): _RUN,
    ("GET", "/v1/exports"): _LOOK,
    ("GET", "/v1/exports/{run_id}"): _LOOK,
    ("GET", "/v1/events"): _LOOK,
    ("GET", "/v1/events/stream"): _LOOK,
    ("POST", "/v1/datasets"): _RUN,
    ("GET", "/v1/datasets"): _LOOK,
    ("GET", "/v1/datasets/{name}"): _LOOK,
    ("POST", "/v1/teachers"): _RUN,
    ("GET", "/v1/teachers"): _LOOK,
    ("GET", "/v1/teachers/{name}"): _LOOK,
    ("GET", "/v1/presets"): _LOOK,
    ("GET", "/v1/projects"): _LOOK,
    ("GET", "/v1/projects/{name}"): _LOOK,
    ("PUT", "/v1/projects/{name}"): _ADMIN,
    ("POST", "/v1/tokens"): _ADMIN,
    ("GET", "/v1/tokens"): _ADMIN,
    ("DELETE", "/v1/tokens/{token_id}"): _ADMIN,
    ("GET", "/v1/audit"): _ADMIN,
}

WORKER_ACCESS: Final[frozenset[Access]] = frozenset({"attempt", "any attempt", "driver"})

CROSS_PROJECT_PATHS: Final = frozenset({"/metrics"})
"""Shows figures of every project: a token of one does not open it."""

UNAUDITED_PATHS: Final = frozenset({"/v1/runs:plan", "/v1/sweeps:plan"})
"""POST requests of people that change nothing."""


@dataclass(frozen=True)
class Endpoint:
    """What a request asks for."""

    path: str | None
    """As in the table; none: there is no such endpoint."""

    access: Access
    path_params: dict[str, str]
    """What its path names, as a run's id."""


def match_endpoint(scope: Scope) -> Endpoint:
    """The endpoint of a request. That there is none is learned only by who has a token."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    for of, path, pattern, least in _ENDPOINTS:
        if of == method and (found := pattern.match(scope["path"])):
            return Endpoint(path, least, found.groupdict())
    return Endpoint(None, Role.VIEWER, {})


_ENDPOINTS = [
    (method, path, compile_path(path)[0], least)
    for (method, path), least in ENDPOINT_ACCESS.items()
]
