"""The body of a request: read as JSON within limits, and validated outside of the event loop."""

from collections.abc import Callable, Coroutine
from email.message import Message
from json import JSONDecodeError
from json import dumps as dump_json
from json import loads as load_json
from typing import Any

from fastapi import HTTPException, Request, Response, status
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from service.api.permissions import WORKER_ACCESS, match_endpoint

NOT_JSON_CODE = "body_not_json"
CONTENT_TYPE_ADVICE = (
    "Send the header Content-Type: application/json; with curl: -H 'Content-Type: application/json'"
)

_MAX_VALUES = 20_000
"""Values in a body, over all levels; the largest sweep has a quarter of them."""

_MAX_VALUES_OF_WORKER = 100_000
"""500 records with the losses of every term and level."""

_MAX_DEPTH = 64

_MAX_BYTES_ON_LOOP = 4096
"""A body of this size is parsed on the event loop: a thread takes longer to start with it."""


class BodyRoute(APIRoute):
    """A route that parses and validates its JSON body in the thread pool, unless it is short.

    FastAPI does both on the event loop, where a large body delays the heartbeats of all workers.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, which receives the body as a valid model."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_with_model(request: Request) -> Response:
            _require_json(request)
            try:
                content = await request.body()
            except ClientDisconnect as error:
                raise HTTPException(400, "The connection was closed within the body.") from error
            if content:
                # FastAPI takes the body from here, and accepts an instance of the model as it is.
                request._json = await _parse_where_it_fits(request, content)
            return await handle(request)

        return handle_with_model


async def _parse_where_it_fits(request: Request, content: bytes) -> BaseModel:
    """Parse a short body here, and a longer one in the thread pool."""
    model = get_body_model(request)
    is_worker = match_endpoint(request.scope).access in WORKER_ACCESS
    if len(content) <= _MAX_BYTES_ON_LOOP:
        return _parse_body(content, model, is_worker=is_worker)
    return await run_in_threadpool(_parse_body, content, model, is_worker=is_worker)


def get_body_model(request: Request) -> Any:
    """The annotation of the endpoint's JSON body. None if it has none."""
    body_field = getattr(request.scope.get("route"), "body_field", None)
    return None if body_field is None else body_field.field_info.annotation


def get_query_model(request: Request) -> Any:
    """The model of the endpoint's query. None if its parameters are single ones."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    parameters: list[Any] = getattr(dependant, "query_params", [])
    return parameters[0].field_info.annotation if len(parameters) == 1 else None


def _require_json(request: Request) -> None:
    """Refuse a body of another content type, which FastAPI would validate as bytes.

    Raises `HTTPException` 415. A request without a body passes: validation names what is missing.
    """
    if not _has_body(request):
        return
    content_type = request.headers.get("content-type", "")
    if not _is_json(content_type):
        sent = f"not as {content_type}" if content_type else "and its content type is missing"
        raise HTTPException(
            status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, f"The body is expected as JSON, {sent}."
        )


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


def _parse_body(content: bytes, model: type[BaseModel], *, is_worker: bool) -> BaseModel:
    """Parse and validate a body. Raises `RequestValidationError`, or `HTTPException` with 400 for
    what the parser cannot read and 413 for too many values.

    Unknown fields of a worker, which may be newer than this service, are ignored.
    """
    try:
        document = load_json(content)
    except JSONDecodeError as error:
        raise RequestValidationError([_describe_syntax_error(error)], body=error.doc) from error
    except (RecursionError, ValueError) as error:
        # Too deep, not in UTF-8, or a number of thousands of digits.
        raise HTTPException(400, "The body cannot be read as JSON.") from error
    _check_size(document, max_values=_MAX_VALUES_OF_WORKER if is_worker else _MAX_VALUES)
    _check_encoding(content, document)
    try:
        return model.model_validate(document, extra="ignore" if is_worker else None)
    except ValidationError as error:
        items = [
            {**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)
        ]
        raise RequestValidationError(items, body=document) from error


def _check_encoding(content: bytes, document: Any) -> None:
    """Refuse half of a character, which an escape sequence can write and no answer could quote."""
    if b"\\u" not in content:
        return
    try:
        dump_json(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise HTTPException(
            400, "A text of the body has an unpaired surrogate, half of a character."
        ) from error


def _describe_syntax_error(error: JSONDecodeError) -> dict[str, Any]:
    """A syntax error in the form of FastAPI's own."""
    return {
        "type": "json_invalid",
        "loc": ("body", error.pos),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": error.msg},
    }


def _check_size(document: Any, *, max_values: int) -> None:
    """Count the values of all levels; raises `HTTPException` 400 or 413. Linear in the size."""
    level, num_values = [document], 1
    for _ in range(_MAX_DEPTH):
        containers = [value for value in level if isinstance(value, dict | list)]
        if not containers:
            return
        level = [
            child
            for container in containers
            for child in (container.values() if isinstance(container, dict) else container)
        ]
        num_values += len(level)
        if num_values > max_values:
            raise HTTPException(413, f"A request body may have at most {max_values} values.")
    raise HTTPException(400, f"The body is nested more than {_MAX_DEPTH} levels deep.")
