"""Content of an autopilot's report, before it is rendered."""

from typing import Annotated, Literal

from pydantic import Field

from configs.spec.autopilot import AutopilotId
from configs.spec.base import Contract, UtcDatetime


class PageText(Contract):
    """A paragraph of plain text."""

    kind: Literal["text"] = "text"
    text: str


class PageTable(Contract):
    """Rows of plain text, each with a cell for every column."""

    kind: Literal["table"] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class MeasuredModel(Contract):
    """A student that was evaluated for the delivery."""

    label: str
    latency_ms: float
    """Median time from a loaded image to its boxes."""

    mean_ap: float
    """From 0 to 1."""

    is_on_front: bool
    """Whether no other one is better in one of both and at least equal in the other."""

    is_delivered: bool


class FrontPlot(Contract):
    """mAP against latency."""

    kind: Literal["plot"] = "plot"
    models: Annotated[tuple[MeasuredModel, ...], Field(min_length=1)]


PageBlock = Annotated[PageText | PageTable | FrontPlot, Field(discriminator="kind")]


class PageSection(Contract):
    """Blocks with a heading."""

    title: str
    blocks: tuple[PageBlock, ...]


class AutopilotReport(Contract):
    """All content of the report."""

    autopilot: AutopilotId
    title: str
    headline: str
    subject: str
    """What it was launched with."""

    at: UtcDatetime
    """The moment that it describes; it is made anew for each request."""

    sections: tuple[PageSection, ...]


def format_seconds(seconds: float) -> str:
    """A duration in the unit in which it has two or three digits."""
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 7200.0 else f"{seconds / 3600.0:.1f} h"
