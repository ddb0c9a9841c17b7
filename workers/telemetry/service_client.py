"""How a run's processes speak to the service: with its token, and with errors for shippers."""

from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from workers.telemetry.shipper import SinkProtocolError, SinkRefused, SinkUnavailable

_TIMEOUT_S = 5.0
_SUPERSEDED = "attempt_superseded"
_LATER = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS}
_NOT_LET_IN = {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}

ResponseT = TypeVar("ResponseT", bound=BaseModel)


class EndpointNotFound(SinkProtocolError):
    """The service does not know the address: it is an older one, or has forgotten the run."""


class SinkConflict(SinkProtocolError):
    """Somebody else was there before."""


_KINDS: dict[int, type[SinkProtocolError]] = {
    httpx.codes.NOT_FOUND: EndpointNotFound,
    httpx.codes.METHOD_NOT_ALLOWED: EndpointNotFound,
    httpx.codes.CONFLICT: SinkConflict,
}


class ServiceClient:
    """Requests to one service; where a token file is there, each shows what is in it."""

    def __init__(self, url: str, *, token_file: Path | None = None) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)
        self._token = self._read_token()

    def post(self, path: str, body: str | bytes, *, media_type: str) -> httpx.Response:
        """The answer to a POST; raises what a `Sink` raises if it is no success."""
        return self._ask("POST", path, content=body, headers={"content-type": media_type})

    def get(self, path: str) -> httpx.Response:
        """The answer to a GET; raises what `post` raises."""
        return self._ask("GET", path, content=None, headers={})

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _ask(
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
        if response.status_code in _NOT_LET_IN:
            self._token = self._read_token()  # it may have been written anew
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
        problem = _problem_of(response)
        if response.status_code == httpx.codes.CONFLICT and problem.code == _SUPERSEDED:
            raise SinkRefused(problem.detail)
        answer = f"HTTP {response.status_code}: {problem.detail or response.text[:500]}"
        if response.is_server_error or response.status_code in _LATER:
            raise SinkUnavailable(answer)
        if response.status_code in _NOT_LET_IN:
            answer = f"{answer} {self._about_the_token()}"
        raise _KINDS.get(response.status_code, SinkProtocolError)(
            f"{response.url} answers {answer}"
        )

    def _about_the_token(self) -> str:
        if self._token_file is None:
            return "No token file is known."
        state = "was shown" if self._token else "is missing, empty or unreadable"
        return f"The token in {self._token_file} {state}."


def parse_response(kind: type[ResponseT], response: httpx.Response) -> ResponseT:
    """What the service answers; `SinkProtocolError` if it is something else."""
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise SinkProtocolError(
            f"{response.url} gives no {kind.__name__.lower()}: {response.text[:200]}"
        ) from error


class _Problem(BaseModel):
    """What is read of a problem document (RFC 9457)."""

    code: str = ""
    detail: str = ""


def _problem_of(response: httpx.Response) -> _Problem:
    try:
        return _Problem.model_validate_json(response.content)
    except ValidationError:
        return _Problem()
