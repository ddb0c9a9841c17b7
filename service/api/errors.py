"""Answers every error with a problem document (RFC 9457); one table maps classes to statuses."""

from collections.abc import Mapping
from typing import Any

import httpx
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from configs.problems import (
    MAX_PROBLEMS,
    SpecProblem,
    count_further_problems,
    describe_problems,
    explain_errors,
)
from service.api.request_body import (
    CONTENT_TYPE_ADVICE,
    NOT_JSON_CODE,
    get_body_model,
    get_query_model,
)
from service.api.schemas.base import FieldProblem, ProblemView
from service.domain.autopilot.autopilots import AutopilotActionRefused
from service.domain.baselines import NothingToRepeat
from service.domain.errors import conflicts, requests, systems
from service.domain.errors.base import TandemError
from service.domain.retention import FilesDeleted
from service.log import redact_secrets

STATUS: dict[type[TandemError], tuple[int, str]] = {
    requests.PresetNotFound: (422, "Preset not found"),
    requests.NotFound: (404, "Not found"),
    requests.SpecRefused: (422, "The spec cannot run"),
    requests.PathRefused: (422, "The path cannot be used"),
    requests.Unauthenticated: (401, "Authentication required"),
    requests.Forbidden: (403, "Forbidden"),
    requests.TokenRefused: (422, "The token cannot be created"),
    requests.FileTooLarge: (422, "The file is too large"),
    requests.LogChunkTooLarge: (413, "The log chunk is too large"),
    conflicts.InvalidTransition: (409, "The run's state does not allow it"),
    conflicts.InvalidSweepTransition: (409, "The sweep's state does not allow it"),
    AutopilotActionRefused: (409, "The autopilot's phase does not allow it"),
    conflicts.SweepLogConflict: (409, "The sweep's log has other entries at this position"),
    conflicts.DriverSuperseded: (409, "A newer driver has taken over"),
    conflicts.MethodsUnknown: (409, "The workers are asked which methods they have"),
    conflicts.NothingToPromote: (409, "There is no trial to promote"),
    NothingToRepeat: (409, "The run cannot be repeated"),
    FilesDeleted: (409, "The run cannot continue"),
    requests.EntryRefused: (422, "The entry does not fit the sweep's log"),
    conflicts.AttemptSuperseded: (409, "A newer attempt has taken over"),
    conflicts.LeaseLost: (409, "Another service process has taken over"),
    conflicts.IdempotencyKeyReused: (409, "The idempotency key was used before"),
    conflicts.NameTaken: (409, "The name is taken"),
    requests.ValueRefused: (422, "A value is too large"),
    systems.SchemaUnknown: (503, "The database has an unknown schema"),
    systems.BackupRefused: (422, "The backup cannot be used"),
    systems.JobRefused: (502, "Ray rejected the job"),
    systems.ClusterFault: (502, "Ray answered with an error"),
    systems.TrackerRefused: (502, "MLflow rejected the request"),
    systems.ClusterUnreachable: (503, "Ray does not answer"),
    systems.TrackerUnreachable: (503, "MLflow does not answer"),
    systems.DatabaseUnreachable: (503, "The database does not answer"),
}
_MEDIA_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


def install_error_handlers(app: FastAPI) -> None:
    """Register a handler for every kind of error."""
    app.add_exception_handler(TandemError, _handle_tandem_error)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(Exception, handle_unexpected_error)


def http_status(error: TandemError) -> tuple[int, str]:
    """HTTP status and title of an error, by its nearest base class in the table."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    raise KeyError(type(error).__name__)


def error_response(error: TandemError) -> JSONResponse:
    """A problem document for an error of the domain."""
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
    """A problem document as a response. Secrets are redacted, as it may quote the request."""
    problems = [
        f.model_copy(
            update={"field": redact_secrets(f.field), "message": redact_secrets(f.message)}
        )
        for f in fields or []
    ]
    document = ProblemView(
        type=f"urn:tandem:problem:{code}",
        title=title,
        status=status,
        detail=redact_secrets(detail),
        code=code,
        errors=problems,
        advice=advice,
    )
    return JSONResponse(document.model_dump(mode="json"), status, media_type=_MEDIA_TYPE)


def too_many_response(*, title: str, detail: str, code: str, retry_after_s: int) -> JSONResponse:
    """A problem document for a request that is refused now, and may be repeated later."""
    response = problem_response(429, title=title, detail=detail, code=code)
    response.headers["Retry-After"] = str(retry_after_s)
    return response


def _handle_tandem_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TandemError)
    return error_response(error)


def _handle_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if syntax_errors := [item for item in error.errors() if item["type"] == "json_invalid"]:
        return _answer_invalid_json(syntax_errors[0])
    problems = _explain_invalid_request(request, error)
    fields = [FieldProblem(field=p.field, code="invalid", message=p.message) for p in problems]
    return problem_response(
        422,
        title="Invalid request",
        detail=describe_problems(problems),
        code="invalid_request",
        fields=fields,
    )


def _answer_invalid_json(item: Mapping[str, Any]) -> JSONResponse:
    """A problem document for a body with a syntax error, with its position."""
    reason = (item.get("ctx") or {}).get("error", "a syntax error")
    position = item["loc"][-1]
    where = f" at character {position + 1}" if isinstance(position, int) else ""
    return problem_response(
        422,
        title="Invalid request",
        detail=f"The body is not valid JSON: {str(reason).rstrip('.')}{where}.",
        code="invalid_request",
        advice="JSON needs double quotes around names and texts, and no comma after the last item.",
    )


def _explain_invalid_request(
    request: Request, error: RequestValidationError
) -> tuple[SpecProblem, ...]:
    """The problems of body, query, path and headers, with fields as the caller writes them."""
    documents = {
        "body": (error.body, get_body_model(request)),
        "query": (dict(request.query_params), get_query_model(request)),
    }
    problems: list[SpecProblem] = []
    items = error.errors()
    for item in items[:MAX_PROBLEMS]:
        source, *location = item["loc"]
        if source == "body" and not location and item["type"] == "missing":
            problems.append(SpecProblem("", "the request needs a body, as JSON"))
            continue
        document, model = documents.get(source, (None, None))
        problems += explain_errors([{**item, "loc": tuple(location)}], document, model)
    return (*problems, *count_further_problems(len(items)))


def _handle_http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {
        404: "no_such_endpoint",
        405: "method_not_allowed",
        413: "body_too_large",
        415: NOT_JSON_CODE,
    }.get(error.status_code, "http_error")
    detail = str(error.detail)
    advice = CONTENT_TYPE_ADVICE if code == NOT_JSON_CODE else None
    response = problem_response(
        error.status_code, title=detail.rstrip("."), detail=detail, code=code, advice=advice
    )
    response.headers.update(error.headers or {})
    return response


def handle_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    """Log an exception that no other handler takes, and answer 500 without its details."""
    log.error("request.failed", path=request.url.path, exc_info=error)
    detail = "Internal error of the service; see its log (`tandem status` shows the path)."
    return problem_response(500, title="Internal error", detail=detail, code="internal_error")
