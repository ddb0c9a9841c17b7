"""HTTP client of a run's processes for the service; raises the errors that shippers understand."""

from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from configs.http_access import client_options
from workers.telemetry.shipper import SinkProtocolError, SinkRefused, SinkUnavailable

_TIMEOUT_S = 5.0
_SUPERSEDED = "attempt_superseded"
_RETRY_LATER = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS}
_AUTH_ERRORS = {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}

ResponseT = TypeVar("ResponseT", bound=BaseModel)


class EndpointNotFound(SinkProtocolError):
    """The service does not know the path: it is an older version, or the run was deleted."""


class SinkConflict(SinkProtocolError):
    """HTTP 409: another process has written first."""


_ERROR_BY_STATUS: dict[int, type[SinkProtocolError]] = {
    httpx.codes.NOT_FOUND: EndpointNotFound,
    httpx.codes.METHOD_NOT_ALLOWED: EndpointNotFound,
    httpx.codes.CONFLICT: SinkConflict,
}


class ServiceClient:
    """Sends requests to one service, with the bearer token of `token_file` if there is one."""

    def __init__(self, url: str, *, token_file: Path | None = None) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._client = httpx.Client(timeout=_TIMEOUT_S, **client_options(url, within_cluster=True))
        self._token = self._read_token()

    def post(self, path: str, body: str | bytes, *, media_type: str) -> httpx.Response:
        """Send a POST; raises the errors of `Sink.deliver` unless it succeeds."""
        return self._request("POST", path, content=body, headers={"content-type": media_type})

    def get(self, path: str) -> httpx.Response:
        """Send a GET; raises the same errors as `post`."""
        return self._request("GET", path, content=None, headers={})

    def close(self) -> None:
        self._client.close()

    def _request(
        self, method: str, path: str, *, content: str | bytes | None, headers: dict[str, str]
    ) -> httpx.Response:
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        try:
            response = self._client.request(
                method, f"{self._url}{path}", content=content, headers=headers
            )
        except httpx.HTTPError as error:
            raise SinkUnavailable(f"{type(error).__name__}: {error}") from error
        if response.status_code in _AUTH_ERRORS:
            self._token = self._read_token()  # it may have been replaced
        self._raise_for_status(response)
        return response

    def _read_token(self) -> str:
        if self._token_file is None:
            return ""
        try:
            return self._token_file.read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    def _raise_for_status(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        problem = _parse_problem(response)
        if response.status_code == httpx.codes.CONFLICT and problem.code == _SUPERSEDED:
            raise SinkRefused(problem.detail)
        message = f"HTTP {response.status_code}: {problem.detail or response.text[:500]}"
        if response.is_server_error or response.status_code in _RETRY_LATER:
            raise SinkUnavailable(message)
        if response.status_code in _AUTH_ERRORS:
            message = f"{message} {self._describe_token()}"
        error_type = _ERROR_BY_STATUS.get(response.status_code, SinkProtocolError)
        raise error_type(f"{response.url} answers {message}")

    def _describe_token(self) -> str:
        if self._token_file is None:
            return "No token file is configured."
        state = "was sent" if self._token else "is missing, empty or unreadable"
        return f"The token in {self._token_file} {state}."


def parse_response(model: type[ResponseT], response: httpx.Response) -> ResponseT:
    """Raises `SinkProtocolError` if the body is not a JSON document of `model`.

    Fields that a newer service adds are ignored: its request to stop must still be heard.
    """
    try:
        return model.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        raise SinkProtocolError(
            f"{response.url} returned no {model.__name__.lower()}: {response.text[:200]}"
        ) from error


class _Problem(BaseModel):
    """The fields of a problem document (RFC 9457) that are read here."""

    code: str = ""
    detail: str = ""


def _parse_problem(response: httpx.Response) -> _Problem:
    try:
        return _Problem.model_validate_json(response.content)
    except ValidationError:
        return _Problem()
