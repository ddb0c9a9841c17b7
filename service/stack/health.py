"""Health checks of the components: a real API call, because a running process may not answer."""

from dataclasses import dataclass

import httpx

from service.adapters.ray_jobs import ray_headers
from service.stack.components import Component, ComponentName, StackConfig


@dataclass(frozen=True)
class HealthCheck:
    """Whether a component answers its health path with 200; `detail` says how it answers."""

    is_up: bool
    detail: str


def check_health(
    component: Component, config: StackConfig, *, timeout_s: float = 4.0
) -> HealthCheck:
    """Request the component's health path."""
    try:
        response = httpx.get(
            component.url + component.health_path,
            headers=_headers(component, config),
            timeout=timeout_s,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return HealthCheck(is_up=False, detail=f"does not answer ({type(error).__name__})")
    if response.status_code == httpx.codes.OK:
        return HealthCheck(is_up=True, detail="answers")
    return HealthCheck(
        is_up=False, detail=f"answers {response.status_code} to {component.health_path}"
    )


def _headers(component: Component, config: StackConfig) -> dict[str, str]:
    if component.name is not ComponentName.RAY:
        return {}
    return ray_headers(token_file=config.ray_token_file, token=config.ray_token)
