"""Delivers records to the service; its receipts carry stop requests back."""

from collections.abc import Callable, Sequence
from pathlib import Path

from configs.protocol.records import Delivery, PendingRecords, Receipt, Record, StopKind
from workers.telemetry.service_client import ServiceClient, parse_response

HEARTBEAT_S = 2.0
"""Between two deliveries without records, unless the service asks for fewer."""

_MAX_PAUSE_S = 30.0
"""However few deliveries the service asks for: a worker is lost after 90 s without one."""


class ServiceSink:
    """The service's endpoint for the records of one attempt."""

    name = "the service"
    pause_s = 0.0

    def __init__(
        self,
        url: str,
        *,
        run_id: str,
        attempt: int,
        token_file: Path | None = None,
        pending_records: Callable[[], PendingRecords] = dict,
    ) -> None:
        """`pending_records` is called at every delivery, which reports its result."""
        self._path = f"/v1/runs/{run_id}/attempts/{attempt}/deliveries"
        self._client = ServiceClient(url, token_file=token_file)
        self._pending_records = pending_records
        self.requested_stop: StopKind | None = None

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        delivery = Delivery(
            first=first, records=tuple(records), pending_records=self._pending_records()
        )
        body = delivery.model_dump_json()
        response = self._client.post(self._path, body, media_type="application/json")
        receipt = parse_response(Receipt, response)
        self.requested_stop = receipt.stop or self.requested_stop
        due_s = HEARTBEAT_S if receipt.next_due_s is None else receipt.next_due_s
        self.pause_s = min(max(0.0, due_s - HEARTBEAT_S), _MAX_PAUSE_S)
        return receipt.next

    def close(self) -> None:
        self._client.close()
