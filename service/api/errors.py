"""Every error as a problem document (RFC 9457): one table from class to status."""

from typing import Any

import httpx
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.api.schemas.base import FieldProblem, ProblemView
from service.domain import errors
from service.domain.baselines import NothingToRepeat
from service.log import redact_secrets

STATUS: dict[type[errors.TandemError], tuple[int, str]] = {
    errors.PresetNotFound: (422, "There is no such preset"),
    errors.NotFound: (404, "Not found"),
    errors.SpecRefused: (422, "The spec cannot run"),
    errors.PathRefused: (422, "The path cannot be used"),
    errors.Unauthenticated: (401, "A token is needed"),
    errors.Forbidden: (403, "Not allowed"),
    errors.TokenRefused: (422, "There can be no such token"),
    errors.LogChunkTooLarge: (413, "The piece is too large"),
    errors.InvalidTransition: (409, "The run's state does not allow it"),
    errors.InvalidSweepTransition: (409, "The sweep's state does not allow it"),
    errors.SweepLogConflict: (409, "The sweep's list has moved on"),
    errors.DriverSuperseded: (409, "A newer driver has taken over"),
    errors.NothingToPromote: (409, "There is no trial to promote"),
    NothingToRepeat: (409, "The run cannot be repeated"),
    errors.EntryRefused: (422, "The sweep's list does not take it"),
    errors.AttemptSuperseded: (409, "A newer attempt has taken over"),
    errors.LeaseLost: (409, "Another service process has taken over"),
    errors.IdempotencyKeyReused: (409, "The idempotency key was used before"),
    errors.NameTaken: (409, "The name is taken"),
    errors.ValueRefused: (422, "A value is too large"),
    errors.SchemaUnknown: (503, "The database has another schema"),
    errors.BackupRefused: (422, "The backup cannot be used"),
    errors.JobRefused: (502, "Ray does not take the job"),
    errors.TrackerRefused: (502, "MLflow does not take it"),
    errors.ClusterUnreachable: (503, "Ray does not answer"),
    errors.TrackerUnreachable: (503, "MLflow does not answer"),
    errors.DatabaseUnreachable: (503, "The database does not answer"),
}
_MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    """Have every error of `app` answered with a problem document."""
    app.add_exception_handler(errors.TandemError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_request)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, handle_unexpected_error)


def http_status(error: errors.TandemError) -> tuple[int, str]:
    """HTTP status and title of an error: those of its nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    raise KeyError(type(error).__name__)


def error_response(error: errors.TandemError) -> JSONResponse:
    """An error as a problem document."""
    status, title = http_status(error)
    fields = [
        FieldProblem(field=f.field, code=f.code, message=f.message) for f in error.field_errors
    ]
    response = problem_response(
        status,
        title=title,
        detail=str(error),
        code=error.code,
        fields=fields,
        advice=error.advice,
    )
    if status == httpx.codes.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_response(
    status: int,
    *,
    title: str,
    detail: str,
    code: str,
    fields: list[FieldProblem] | None = None,
    advice: str | None = None,
) -> JSONResponse:
    """A problem document as a response; where it quotes the request, it quotes no token."""
    faults = [f.model_copy(update=_without_secrets(f.field, f.message)) for f in fields or []]
    document = ProblemView(
        type=f"urn:tandem:problem:{code}",
        title=title,
        status=status,
        detail=redact_secrets(detail),
        code=code,
        errors=faults,
        advice=advice,
    )
    return JSONResponse(document.model_dump(mode="json"), status, media_type=_MEDIA_TYPE)


def _without_secrets(field: str, message: str) -> dict[str, str]:
    return {"field": redact_secrets(field), "message": redact_secrets(message)}


def _of_ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.TandemError)
    return error_response(error)


def _of_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [
        FieldProblem(field=_field(item["loc"]), code="invalid", message=item["msg"])
        for item in error.errors()
    ]
    detail = "; ".join(f"{f.field}: {f.message}" if f.field else f.message for f in fields)
    return problem_response(
        422, title="The request is not valid", detail=detail, code="invalid_request", fields=fields
    )


def _of_http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {
        404: "no_such_endpoint",
        405: "method_not_allowed",
        413: "body_too_large",
    }.get(error.status_code, "http_error")
    detail = str(error.detail)
    response = problem_response(error.status_code, title=detail, detail=detail, code=code)
    response.headers.update(error.headers or {})
    return response


def handle_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    """Log what no handler expected, and answer 500 without its details."""
    log.error("request.failed", path=request.url.path, exc_info=error)
    detail = "The service has a fault; its log says more (`tandem status` shows where it is)."
    return problem_response(500, title="Internal error", detail=detail, code="internal_error")


def _field(location: tuple[Any, ...]) -> str:
    return ".".join(
        str(part) for part in location if part not in ("body", "query", "path", "header")
    )
