"""Whether a part answers: a real call to its API, because a process that runs may still be deaf."""

from dataclasses import dataclass

import httpx

from service.adapters.ray_jobs import ray_headers
from service.stack.components import Component, ComponentName, StackConfig


@dataclass(frozen=True)
class HealthCheck:
    """What a probe found."""

    is_up: bool
    detail: str


def check_health(part: Component, config: StackConfig, *, timeout_s: float = 4.0) -> HealthCheck:
    """Asks the part to do something small."""
    try:
        answer = httpx.get(
            part.url + part.health_path,
            headers=_headers(part, config),
            timeout=timeout_s,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return HealthCheck(is_up=False, detail=type(error).__name__)
    if answer.status_code == httpx.codes.OK:
        return HealthCheck(is_up=True, detail="answers")
    return HealthCheck(is_up=False, detail=f"answers {answer.status_code} to {part.health_path}")


def _headers(part: Component, config: StackConfig) -> dict[str, str]:
    if part.name is not ComponentName.RAY:
        return {}
    return ray_headers(token_file=config.ray_token_file, token=config.ray_token)
