"""Brings records to the service, and brings back whether the run is to stop."""

from collections.abc import Callable, Sequence
from pathlib import Path

from configs.protocol.records import Behind, Delivery, Receipt, Record, StopKind
from workers.telemetry.service_client import ServiceDoor, understood


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
        behind: Callable[[], Behind] = dict,
    ) -> None:
        """`behind`: what each destination lacks, asked at every delivery."""
        self._path = f"/v1/runs/{run_id}/attempts/{attempt}/deliveries"
        self._door = ServiceDoor(url, token_file=token_file)
        self._behind = behind
        self.stop_asked: StopKind | None = None

    def deliver(self, first: int, records: Sequence[Record]) -> int:
        """POST records; an empty delivery is the heartbeat."""
        delivery = Delivery(first=first, records=tuple(records), behind=self._behind())
        body = delivery.model_dump_json()
        response = self._door.post(self._path, body, media_type="application/json")
        receipt = understood(Receipt, response)
        self.stop_asked = receipt.stop or self.stop_asked
        return receipt.next

    def close(self) -> None:
        """Close the connection."""
        self._door.close()
