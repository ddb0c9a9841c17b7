"""Pending records of each destination, from the worker's report and what has arrived."""

from datetime import UTC, datetime

import pytest

from configs.protocol.records import Delivery, Note, PendingRecords
from service.domain.runs import Run
from service.domain.worker_records import update_from_delivery, update_from_records
from tests.support.factories import make_run

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def notes(count: int) -> tuple[Note, ...]:
    return tuple(Note(at=NOW, attempt=1, text="n") for _ in range(count))


def deliver(run: Run, delivery: Delivery) -> Run:
    """Accept a delivery like the service; returns its new records."""
    run = update_from_delivery(run, delivery, at=NOW)
    if delivery.first > run.ingest.next_spool_position:
        return run
    return update_from_records(
        run, delivery.records[run.ingest.next_spool_position - delivery.first :], at=NOW
    )


@pytest.mark.parametrize(
    ("num_received", "first", "num_delivered", "reported", "num_pending"),
    [
        (0, 0, 3, 3, 0),  # all there is
        (0, 0, 3, 10, 7),  # the first of several deliveries
        (3, 0, 3, 3, 0),  # the same again: its receipt was lost
        (2, 0, 3, 5, 2),  # some of it is new
        (1, 4, 2, 2, 5),  # after a gap: nothing can be taken
        (9, 0, 3, 3, 0),  # we have more than the worker's folder
        (5, 5, 0, 0, 0),  # a heartbeat
    ],
)
def test_what_the_service_lacks_follows_from_what_it_has(
    num_received: int, first: int, num_delivered: int, reported: int, num_pending: int
) -> None:
    delivery = Delivery(
        first=first, records=notes(num_delivered), pending_records={"service": reported}
    )

    run = deliver(make_run(next_spool_position=num_received), delivery)

    assert run.ingest.pending_records == {"service": num_pending}


def test_what_mlflow_lacks_is_what_the_worker_says() -> None:
    before = make_run(pending_records={"service": 4, "mlflow": 9})

    run = deliver(
        before, Delivery(first=0, records=notes(2), pending_records={"service": 2, "mlflow": 31})
    )

    assert run.ingest.pending_records == {"service": 0, "mlflow": 31}


@pytest.mark.parametrize("before", [{}, {"mlflow": 9}])
def test_a_worker_that_says_nothing_changes_nothing(before: PendingRecords) -> None:
    run = deliver(make_run(pending_records=before), Delivery(first=0, records=notes(2)))

    assert run.ingest.pending_records == before


def test_what_is_read_from_the_disk_is_not_lacking_any_more() -> None:
    run = update_from_records(
        make_run(pending_records={"service": 5, "mlflow": 9}), notes(3), at=NOW
    )

    assert run.ingest.pending_records == {"service": 2, "mlflow": 9}


def test_a_delivery_of_an_older_worker_is_valid() -> None:
    delivery = Delivery.model_validate_json('{"first": 0, "records": []}')

    assert delivery.pending_records == {}
