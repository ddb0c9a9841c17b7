"""The body of a request: what its endpoint expects, and whether it was sent as JSON."""

from email.message import Message
from typing import Any

from fastapi import HTTPException, Request, status

NOT_JSON_CODE = "body_not_json"
CONTENT_TYPE_ADVICE = (
    "Send the header Content-Type: application/json; with curl: -H 'Content-Type: application/json'"
)


async def require_json_body(request: Request) -> None:
    """Refuse a body of another content type, which FastAPI would validate as bytes.

    Raises `HTTPException` 415. A request without a body passes: validation names what is missing.
    """
    if get_body_model(request) is None or not _has_body(request):
        return
    content_type = request.headers.get("content-type", "")
    if not _is_json(content_type):
        sent = f"not as {content_type}" if content_type else "and its content type is missing"
        raise HTTPException(
            status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, f"The body is expected as JSON, {sent}."
        )


def get_body_model(request: Request) -> Any:
    """The annotation of the endpoint's JSON body. None if it has none."""
    body_field = getattr(request.scope.get("route"), "body_field", None)
    return None if body_field is None else body_field.field_info.annotation


def get_query_model(request: Request) -> Any:
    """The model of the endpoint's query. None if its parameters are single ones."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    parameters: list[Any] = getattr(dependant, "query_params", [])
    return parameters[0].field_info.annotation if len(parameters) == 1 else None


def _has_body(request: Request) -> bool:
    length = request.headers.get("content-length", "")
    return "transfer-encoding" in request.headers or (length.isdigit() and int(length) > 0)


def _is_json(content_type: str) -> bool:
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )
