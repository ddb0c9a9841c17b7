"""Requests to the service, and its refusals as errors."""

from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from service.api.schemas.base import ProblemView

ModelT = TypeVar("ModelT", bound=BaseModel)


class ServiceUnreachable(Exception):
    """Nothing answers at the service's address."""

    def __init__(self, url: str) -> None:
        super().__init__(f"The service does not answer at {url}. Start it with `tandem up`.")


class TandemApiError(Exception):
    """The service refused a request; `problem` says what, which field, and what to do."""

    def __init__(self, problem: ProblemView) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem


class ApiTransport:
    """The service at `url`; a context manager."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout_s,
            trust_env=False,
            transport=transport,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        response = self._send(method, path, body=body, params=params, headers=headers)
        if not response.is_success:
            raise parse_error(response)
        return response

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        content = None if body is None else body.model_dump_json()
        kind = {} if body is None else {"content-type": "application/json"}
        try:
            return self._http.request(
                method, path, content=content, params=params, headers={**kind, **(headers or {})}
            )
        except httpx.TransportError as error:
            raise ServiceUnreachable(self.url) from error


def parse_list(kind: type[ModelT], response: httpx.Response) -> list[ModelT]:
    """An answer that is a list."""
    return TypeAdapter(list[kind]).validate_json(response.content)  # type: ignore[valid-type]


def parse_error(response: httpx.Response) -> TandemApiError:
    """A refusal as an error, whoever answered."""
    try:
        problem = ProblemView.model_validate_json(response.content)
    except ValidationError:
        problem = ProblemView(
            type="about:blank",
            title=f"HTTP {response.status_code}",
            status=response.status_code,
            detail=response.text[:500],
            code="not_a_problem",
        )
    return TandemApiError(problem)
