"""The API's description says of every endpoint which problems it may answer."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from service.api.permissions import ENDPOINT_ACCESS
from service.api.schemas.base import FieldProblem, ProblemView

_REF = "#/components/schemas/{model}"
_OF_ALL = (400, 413, 421, 429, 503)
_OF_TOKENS = (401, 403)
_WITH_INPUT = (404, 422)
_OF_CHANGES = (409, 502)


def describe_problems(app: FastAPI) -> None:
    """Have `app.openapi()` tell them; FastAPI's own form of errors is none of ours."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            schemas = document["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            for model in (ProblemView, FieldProblem):
                schema = model.model_json_schema(ref_template=_REF)
                schema.pop("$defs", None)
                schemas[model.__name__] = schema
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    _add(operation, method.upper(), path)
            _tell_of_tokens(document)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _add(operation: dict[str, Any], method: str, path: str) -> None:
    statuses = {*_OF_ALL}
    if ENDPOINT_ACCESS[method, path] != "anybody":
        statuses |= {*_OF_TOKENS}
    if operation.get("parameters") or "requestBody" in operation:
        statuses |= {*_WITH_INPUT}
    if method != "GET":
        statuses |= {*_OF_CHANGES}
    for status in sorted(statuses):
        if status == HTTPStatus.SERVICE_UNAVAILABLE and path == "/readyz":
            continue  # that is an answer, not a problem
        operation["responses"][str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {
                "application/problem+json": {"schema": {"$ref": _REF.format(model="ProblemView")}}
            },
        }
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _tell_of_tokens(document: dict[str, Any]) -> None:
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes["token"] = {"type": "http", "scheme": "bearer"}
    document["security"] = [{}, {"token": []}]
