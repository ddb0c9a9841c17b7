"""Whether a part answers: a real call to its API, because a process that runs may still be deaf."""

from dataclasses import dataclass

import httpx

from service.adapters.ray_jobs import ray_headers
from service.stack.components import Part, PartName, StackConfig


@dataclass(frozen=True)
class Health:
    """What a probe found."""

    is_up: bool
    detail: str


def probe(part: Part, config: StackConfig, *, timeout_s: float = 4.0) -> Health:
    """Asks the part to do something small."""
    try:
        answer = httpx.get(
            part.url + part.probe,
            headers=_headers(part, config),
            timeout=timeout_s,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return Health(is_up=False, detail=type(error).__name__)
    if answer.status_code == httpx.codes.OK:
        return Health(is_up=True, detail="answers")
    return Health(is_up=False, detail=f"answers {answer.status_code} to {part.probe}")


def _headers(part: Part, config: StackConfig) -> dict[str, str]:
    if part.name is not PartName.RAY:
        return {}
    return ray_headers(token_file=config.ray_token_file, token=config.ray_token)
