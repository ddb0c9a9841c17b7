"""Brings records to the service, and brings back whether the run is to stop."""

from collections.abc import Callable, Sequence
from pathlib import Path

from configs.protocol.records import Delivery, PendingRecords, Receipt, Record, StopKind
from workers.telemetry.service_client import ServiceClient, parse_response


class ServiceSink:
    """The service's endpoint for one attempt."""

    name = "the service"

    def __init__(
        self,
        url: str,
        *,
        run_id: str,
        attempt: int,
        token_file: Path | None = None,
        pending_records: Callable[[], PendingRecords] = dict,
    ) -> None:
        """`behind`: what each destination lacks, asked at every delivery."""
        self._path = f"/v1/runs/{run_id}/attempts/{attempt}/deliveries"
        self._door = ServiceClient(url, token_file=token_file)
        self._behind = pending_records
        self.requested_stop: StopKind | None = None

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        """POST records; an empty delivery is the heartbeat."""
        delivery = Delivery(first=first, records=tuple(records), pending_records=self._behind())
        body = delivery.model_dump_json()
        response = self._door.post(self._path, body, media_type="application/json")
        receipt = parse_response(Receipt, response)
        self.requested_stop = receipt.stop or self.requested_stop
        return receipt.next

    def close(self) -> None:
        """Close the connection."""
        self._door.close()
