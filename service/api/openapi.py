"""Completes the OpenAPI schema: operation ids, problem documents, examples of requests."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.api.examples import REQUEST_EXAMPLES
from service.api.permissions import ENDPOINT_ACCESS, Access
from service.api.schemas.base import FieldProblem, ProblemView

_REF = "#/components/schemas/{model}"
_COMMON_STATUSES = (400, 413, 421, 429, 503)
_AUTH_STATUSES = (401, 403)
_INPUT_STATUSES = (404, 422)
_BODY_STATUSES = (415,)
_WRITE_STATUSES = (409, 502)


def get_operation_id(route: APIRoute) -> str:
    """The operation's id in the schema, from which generators of clients name its method: the name
    of the endpoint's function, as in `launch_run`."""
    return route.name


def complete_schema(app: FastAPI) -> None:
    """Wrap `app.openapi()`; FastAPI's own error schemas are removed, because they are not used."""
    generate_schema = app.openapi

    def generate_complete_schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate_schema()
            schemas = document["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            for model in (ProblemView, FieldProblem):
                schema = model.model_json_schema(ref_template=_REF)
                schema.pop("$defs", None)
                schemas[model.__name__] = schema
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    _add_problems(operation, method.upper(), path)
                    _add_examples(operation)
            _add_security_scheme(document)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = generate_complete_schema  # type: ignore[method-assign]


def _add_problems(operation: dict[str, Any], method: str, path: str) -> None:
    statuses = {*_COMMON_STATUSES}
    if ENDPOINT_ACCESS[method, path] is not Access.PUBLIC:
        statuses |= {*_AUTH_STATUSES}
    if operation.get("parameters") or "requestBody" in operation:
        statuses |= {*_INPUT_STATUSES}
    if "requestBody" in operation:
        statuses |= {*_BODY_STATUSES}
    if method != "GET":
        statuses |= {*_WRITE_STATUSES}
    for status in sorted(statuses):
        if status == HTTPStatus.SERVICE_UNAVAILABLE and path == "/readyz":
            continue  # a health report, not a problem document
        operation["responses"][str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {
                "application/problem+json": {"schema": {"$ref": _REF.format(model="ProblemView")}}
            },
        }
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _add_examples(operation: dict[str, Any]) -> None:
    """Add the examples of the request body; Swagger UI fills in the first one."""
    if "requestBody" in operation:
        examples = REQUEST_EXAMPLES[operation["operationId"]]
        operation["requestBody"]["content"]["application/json"]["examples"] = examples


def _add_security_scheme(document: dict[str, Any]) -> None:
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes["token"] = {"type": "http", "scheme": "bearer"}
    document["security"] = [{}, {"token": []}]
