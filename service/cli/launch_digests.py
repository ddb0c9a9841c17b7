"""Digests of launches, as idempotency keys of commands that may be called again."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.api.schemas.runs import RunRequest
    from service.client import TandemClient


def digest_launch(
    client: "TandemClient", request: "RunRequest", *, dataset: str | None, teacher: str | None
) -> str:
    """Digest of request, resolved spec, dataset and teacher; equal requests share their run."""
    from hashlib import sha256

    parts = [
        request.model_dump_json(),
        client.plan(request).spec.model_dump_json(),
        *(
            f"{item.name} {item.manifest.digest}"
            for item in client.datasets()
            if item.name == dataset
        ),
        *(f"{item.name} {item.sha256}" for item in client.teachers() if item.name == teacher),
    ]
    return sha256("\n".join(parts).encode()).hexdigest()[:32]
