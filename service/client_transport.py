"""HTTP transport of the client: requests, and error responses as exceptions."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from configs.http_access import client_options
from service.api.schemas.base import ProblemView


class Page(Protocol):
    """A page of a list."""

    @property
    def next_cursor(self) -> str | int | None:
        """None on the last page."""

    @classmethod
    def model_validate_json(cls, json_data: bytes, /) -> Self:
        """Parse the body of a response."""


ModelT = TypeVar("ModelT", bound=BaseModel)
PageT = TypeVar("PageT", bound=Page)


class ServiceUnreachable(Exception):
    """The service does not answer at its address."""

    def __init__(self, url: str) -> None:
        super().__init__(f"The service does not answer at {url}. Start it with `tandem up`.")


class TandemApiError(Exception):
    """The service rejected a request; `problem` holds the reason, the fields and advice."""

    def __init__(self, problem: ProblemView) -> None:
        super().__init__(_describe_problem(problem))
        self.problem = problem

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self.problem.status

    @property
    def code(self) -> str:
        """What went wrong, as a word for programs, e.g. `run_not_found`."""
        return self.problem.code


def _describe_problem(problem: ProblemView) -> str:
    """The title with all invalid fields, a line each, or with the detail; then the advice."""
    lines = [f"  {item.field}: {item.message}" for item in problem.errors]
    head = [f"{problem.title}:", *lines] if lines else [f"{problem.title}: {problem.detail}"]
    return "\n".join([*head, *([problem.advice] if problem.advice else [])])


class ApiTransport:
    """HTTP connections to the service at `url`; a context manager.

    Raises `ServiceUnreachable` without an answer, `TandemApiError` if the answer is an error.
    """

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
            transport=transport,
            **client_options(self.url),
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
        """Close all HTTP connections."""
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

    def _iter_pages(
        self, model: type[PageT], path: str, params: Mapping[str, Any] | None = None
    ) -> Iterator[PageT]:
        """Request page after page of a list."""
        cursor: dict[str, Any] = {}
        while True:
            response = self._request("GET", path, params={**(params or {}), **cursor})
            page = model.model_validate_json(response.content)
            yield page
            if page.next_cursor is None:
                return
            cursor = {"cursor": page.next_cursor}

    def _stream_text(self, path: str, *, params: dict[str, Any]) -> Iterator[str]:
        """The text of a response, in the parts in which it arrives."""
        try:
            with self._http.stream("GET", path, params=params) as response:
                if not response.is_success:
                    response.read()
                    raise parse_error(response)
                yield from response.iter_text()
        except httpx.TransportError as error:
            raise ServiceUnreachable(self.url) from error

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
        content_type = {} if body is None else {"content-type": "application/json"}
        try:
            return self._http.request(
                method,
                path,
                content=content,
                params=params,
                headers={**content_type, **(headers or {})},
            )
        except httpx.TransportError as error:
            raise ServiceUnreachable(self.url) from error


def parse_list(model: type[ModelT], response: httpx.Response) -> list[ModelT]:
    """Parse a response whose body is a list of `model`."""
    return TypeAdapter(list[model]).validate_json(response.content)  # type: ignore[valid-type]


def parse_error(response: httpx.Response) -> TandemApiError:
    """Convert an error response, even one that the service did not write, e.g. a proxy's."""
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
