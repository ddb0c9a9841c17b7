"""An API with stored answers, as a transport of the client."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import httpx
from pydantic import BaseModel

Body: TypeAlias = BaseModel | Sequence[BaseModel] | str
"""A response's body: a model or a list of models as JSON, or text."""

Answer: TypeAlias = Body | Callable[[bytes], Body]
"""A body, or a function that chooses one by the body of the request."""


class CannedApi(httpx.BaseTransport):
    """Answers each request with the body stored for its method and path.

    A key is a method and a path, e.g. `GET /v1/runs`; the query is ignored. A request without an
    answer raises `AssertionError`.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the stored answer."""
        self.requests.append(request)
        key = f"{request.method} {request.url.path}"
        assert key in self._answers, f"no answer for {key}"
        answer = self._answers[key]
        body = answer(request.read()) if callable(answer) else answer
        return httpx.Response(200, content=_encode(body))


def _encode(body: Body) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, BaseModel):
        return body.model_dump_json().encode()
    return b"[" + b",".join(map(_encode, body)) + b"]"
