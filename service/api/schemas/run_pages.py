"""Pages of what belongs to a run: its events, attempts and metric values."""

from typing import Annotated

from pydantic import Field

from configs.spec.base import Contract
from service.api.schemas.run_details import AttemptView, EventView, MetricView


class EventPage(Contract):
    """Events, the oldest first. `next_cursor` is None on the last page."""

    items: list[EventView]
    next_cursor: int | None


class AttemptPage(Contract):
    """Attempts by number. `next_cursor` is None on the last page."""

    items: list[AttemptView]
    next_cursor: int | None


class MetricPage(Contract):
    """Metric values by key and step. `next_cursor` is None on the last page."""

    items: list[MetricView]
    next_cursor: str | None


class RunEventQuery(Contract):
    """Cursor pagination of a list of events."""

    cursor: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """`next_cursor` of the previous page, or the id of any event: those after it are listed."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class EventQuery(RunEventQuery):
    """Filters and cursor of a list of events."""

    run: str | None = None
    project: str | None = None


class EventStreamQuery(Contract):
    """Filters of a stream of events."""

    after: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """As `Last-Event-ID`, which takes precedence: the id of the last event that is known."""

    run: str | None = None
    project: str | None = None


class AttemptQuery(Contract):
    """Cursor pagination of the attempts of a run."""

    cursor: Annotated[int, Field(ge=0, le=999_999)] = 0
    """`next_cursor` of the previous page."""

    limit: Annotated[int, Field(ge=1, le=200)] = 100


class MetricQuery(Contract):
    """Filter and cursor pagination of metric values."""

    key: Annotated[str | None, Field(max_length=250)] = None
    """Only values of this metric."""

    cursor: Annotated[str | None, Field(pattern=r"^[0-9]{1,18}/", max_length=300)] = None
    """`next_cursor` of the previous page, with the same key."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 2000
