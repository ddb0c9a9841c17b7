"""Health checks of the components: a real API call, because a running process may not answer."""

from dataclasses import dataclass
from typing import Any

import httpx

from configs.http_access import AccessRefused, client_options
from configs.mlflow_access import mlflow_client_options
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
        with httpx.Client(timeout=timeout_s, **_client_options(component, config)) as client:
            response = client.get(component.url + component.health_path)
    except AccessRefused as error:
        return HealthCheck(is_up=False, detail=str(error))
    except httpx.HTTPError as error:
        return HealthCheck(is_up=False, detail=f"does not answer ({type(error).__name__})")
    if response.status_code == httpx.codes.OK:
        return HealthCheck(is_up=True, detail="answers")
    return HealthCheck(
        is_up=False, detail=f"answers {response.status_code} to {component.health_path}"
    )


def _client_options(component: Component, config: StackConfig) -> dict[str, Any]:
    if component.name is ComponentName.MLFLOW:
        return mlflow_client_options(component.url)
    options = client_options(component.url, within_cluster=True)
    if component.name is ComponentName.SERVICE:
        return options
    return options | {
        "headers": ray_headers(token_file=config.ray_token_file, token=config.ray_token)
    }
