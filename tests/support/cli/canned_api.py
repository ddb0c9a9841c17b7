"""An API with stored answers, as a transport of the client."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import httpx
from pydantic import BaseModel

Answer: TypeAlias = BaseModel | Sequence[BaseModel] | str
"""A response's body: a model or a list of models as JSON, or text."""


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
        return httpx.Response(200, content=_encode(self._answers[key]))


def _encode(answer: Answer) -> bytes:
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, BaseModel):
        return answer.model_dump_json().encode()
    return b"[" + b",".join(map(_encode, answer)) + b"]"
