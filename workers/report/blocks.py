"""Content of a report, before it is rendered: sections of paragraphs, tables and pictures."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

_MAX_NARROW_COLUMNS, _MAX_STACKED_ROWS = 5, 8

Tone = Literal["good", "bad", "open", "strong", "faint"]
"""Style of a text: a gain, a loss, undecided, the best, less important."""


NarrowLayout = Literal["fits", "stacked", "scrolls"]
"""Layout of a table on a narrow page: as it is, each row as a block of titled cells, or wider than
the page in a frame that scrolls."""


@dataclass(frozen=True)
class Span:
    """A value with its interval, on a scale shared by the rows of a table."""

    value: float
    low: float | None
    high: float | None
    scale: tuple[float, float]

    def at(self, number: float) -> float:
        """Position of a number on the scale, in percent of its width."""
        first, last = self.scale
        return 100.0 * (number - first) / (last - first)


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    tone: Tone | None = None
    href: str | None = None
    span: Span | None = None
    share: float | None = None
    """Length of a bar in the cell, from 0 to 1; None for no bar."""


@dataclass(frozen=True)
class Column:
    """Heading of a column; numbers are right-aligned."""

    title: str
    is_number: bool = False


@dataclass(frozen=True)
class Row:
    """Cells, one for each column; `is_marked` rows are highlighted."""

    cells: tuple[Cell, ...]
    is_marked: bool = False


@dataclass(frozen=True)
class Table:
    """Rows with column headings."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: str | None = None

    @property
    def narrow_layout(self) -> NarrowLayout:
        """The layout on a page as narrow as a phone's."""
        if len(self.columns) <= _MAX_NARROW_COLUMNS:
            return "fits"
        return "stacked" if len(self.rows) <= _MAX_STACKED_ROWS else "scrolls"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Placeholder:
    """The reason why there is nothing to show."""

    reason: str


@dataclass(frozen=True)
class Picture:
    """An SVG with the placeholder colors of `plots.style.PALETTE`."""

    name: str
    svg: str
    narrow_svg: str
    """The same for pages as narrow as a phone's."""

    caption: str
    alt: str


@dataclass(frozen=True)
class Photo:
    """An image of the dataset with boxes drawn on it, as JPEG."""

    name: str
    jpeg: bytes
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Images side by side."""

    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class Panels:
    """The same image several times, with the boxes of one detector each."""

    photos: tuple[Photo, ...]
    caption: str


@dataclass(frozen=True)
class Commands:
    """Lines to type in a shell."""

    lines: tuple[str, ...]


Block = Paragraph | Placeholder | Table | Picture | Gallery | Panels | Commands


@dataclass(frozen=True)
class Section:
    """A titled part of the report; `key` is its anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Fact:
    """A key figure at the top of the page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """The answer in one sentence, and the evidence for it."""

    sentence: str
    support: tuple[str, ...]
    tone: Tone


@dataclass(frozen=True)
class Link:
    """A link to further information."""

    title: str
    href: str


@dataclass(frozen=True)
class ReportContent:
    """All content of a report."""

    title: str
    at: datetime
    subject: str
    headline: Headline
    facts: tuple[Fact, ...]
    links: tuple[Link, ...]
    sections: tuple[Section, ...]
