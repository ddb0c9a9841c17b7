"""Brings records to the service, and brings back whether the run is to stop."""

from collections.abc import Sequence

import httpx
from pydantic import ValidationError

from configs.spec import Delivery, Receipt, Record
from workers.reporting.shipper import SinkRefused, SinkUnavailable

_TIMEOUT_S = 5.0


class ServiceSink:
    """The service's endpoint for one attempt."""

    name = "the service"

    def __init__(self, url: str, *, run_id: str, attempt: int) -> None:
        self._url = f"{url.rstrip('/')}/v1/runs/{run_id}/attempts/{attempt}/deliveries"
        self._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)
        self.stop_requested = False

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        """POST records; an empty delivery is the heartbeat."""
        body = Delivery(first=first, records=tuple(records)).model_dump_json()
        try:
            response = self._client.post(
                self._url, content=body, headers={"content-type": "application/json"}
            )
        except httpx.HTTPError as error:
            raise SinkUnavailable(f"{type(error).__name__}: {error}") from error
        if response.status_code == httpx.codes.CONFLICT:
            raise SinkRefused(response.text)
        if not response.is_success:
            raise SinkUnavailable(f"HTTP {response.status_code}: {response.text[:500]}")
        try:
            receipt = Receipt.model_validate_json(response.content)
        except ValidationError as error:
            raise SinkUnavailable(f"no receipt: {response.text[:200]}") from error
        self.stop_requested |= receipt.stop
        return receipt.next
