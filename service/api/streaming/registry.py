"""What the streams of a service process share."""

from dataclasses import dataclass

from service.api.streaming.admission import DEFAULT_LIMITS, StreamAdmission, StreamLimits
from service.api.streaming.events import EventFeed
from service.api.streaming.logs import LogFeed
from service.usecases.context import Context


@dataclass(frozen=True)
class Streams:
    """The limits of all streams, and the polls that they share."""

    admission: StreamAdmission
    events: EventFeed
    logs: LogFeed


def create_streams(ctx: Context, limits: StreamLimits = DEFAULT_LIMITS) -> Streams:
    """The shared state of a service process without streams."""
    return Streams(
        StreamAdmission(ctx, limits),
        EventFeed(ctx, poll_interval_s=limits.poll_interval_s),
        LogFeed(ctx, poll_interval_s=limits.poll_interval_s),
    )
