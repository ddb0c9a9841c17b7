"""Makes the routers of the API."""

from fastapi import APIRouter

from service.api.openapi import get_operation_id
from service.api.request_body import BodyRoute


def create_router(*, prefix: str = "/v1", tag: str | None) -> APIRouter:
    """A router whose operations are listed under `tag`; with None, the schema leaves them out."""
    return APIRouter(
        prefix=prefix,
        tags=None if tag is None else [tag],
        include_in_schema=tag is not None,
        route_class=BodyRoute,
        generate_unique_id_function=get_operation_id,
    )
