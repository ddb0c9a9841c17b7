"""Brings records to the service, and brings back whether the run is to stop."""

from collections.abc import Sequence

import httpx
from pydantic import BaseModel, ValidationError

from configs.spec import Delivery, Receipt, Record, StopKind
from workers.reporting.shipper import SinkBroken, SinkRefused, SinkUnavailable

_TIMEOUT_S = 5.0
_SUPERSEDED = "attempt_superseded"
_LATER = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY, httpx.codes.TOO_MANY_REQUESTS}


class ServiceSink:
    """The service's endpoint for one attempt."""

    name = "the service"

    def __init__(self, url: str, *, run_id: str, attempt: int) -> None:
        self._url = f"{url.rstrip('/')}/v1/runs/{run_id}/attempts/{attempt}/deliveries"
        self._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)
        self.stop_asked: StopKind | None = None

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        """POST records; an empty delivery is the heartbeat."""
        body = Delivery(first=first, records=tuple(records)).model_dump_json()
        try:
            response = self._client.post(
                self._url, content=body, headers={"content-type": "application/json"}
            )
        except httpx.HTTPError as error:
            raise SinkUnavailable(f"{type(error).__name__}: {error}") from error
        _raise_for_status(response)
        try:
            receipt = Receipt.model_validate_json(response.content)
        except ValidationError as error:
            raise SinkBroken(f"{self._url} gives no receipt: {response.text[:200]}") from error
        self.stop_asked = receipt.stop or self.stop_asked
        return receipt.next

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class _Problem(BaseModel):
    """What is read of a problem document (RFC 9457)."""

    code: str = ""
    detail: str = ""


def _raise_for_status(response: httpx.Response) -> None:
    if response.is_success:
        return
    problem = _problem_of(response)
    if response.status_code == httpx.codes.CONFLICT and problem.code == _SUPERSEDED:
        raise SinkRefused(problem.detail)
    answer = f"HTTP {response.status_code}: {problem.detail or response.text[:500]}"
    if response.is_server_error or response.status_code in _LATER:
        raise SinkUnavailable(answer)
    raise SinkBroken(f"{response.url} answers {answer}")


def _problem_of(response: httpx.Response) -> _Problem:
    try:
        return _Problem.model_validate_json(response.content)
    except ValidationError:
        return _Problem()
