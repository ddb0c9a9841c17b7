"""What a report says, before it is a page or Markdown: sections of words, tables and pictures."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Tone = Literal["good", "bad", "open", "strong", "faint"]
"""How a word is set: a gain, a loss, not decided, the best, beside the point."""


@dataclass(frozen=True)
class Span:
    """A value with its interval on a scale that a table's rows share."""

    value: float
    low: float | None
    high: float | None
    scale: tuple[float, float]

    def at(self, number: float) -> float:
        """Where a number lies on the scale, in percent of its width."""
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
    """Drawn as a bar, from 0 to 1."""


@dataclass(frozen=True)
class Column:
    """A column's heading; numbers stand at the right."""

    title: str
    is_number: bool = False


@dataclass(frozen=True)
class Row:
    """Cells, one for each column; `is_marked` rows stand out."""

    cells: tuple[Cell, ...]
    is_marked: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under headings."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Placeholder:
    """Why there is nothing to show."""

    reason: str


@dataclass(frozen=True)
class Picture:
    """A drawing with the colours of `drawing.PALETTE`, still to be filled in."""

    name: str
    svg: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Photo:
    """An image of the data set with boxes on it."""

    name: str
    jpeg: bytes
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Images beside each other."""

    photos: tuple[Photo, ...]


Block = Paragraph | Placeholder | Table | Picture | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the report under a title; `key` is its anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Fact:
    """One number that is read at a glance."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """The answer in one sentence, and what it rests on."""

    sentence: str
    support: tuple[str, ...]
    tone: Tone


@dataclass(frozen=True)
class Link:
    """Where more is to be found."""

    title: str
    href: str


@dataclass(frozen=True)
class ReportContent:
    """A whole report."""

    title: str
    at: datetime
    subject: str
    headline: Headline
    facts: tuple[Fact, ...]
    links: tuple[Link, ...]
    sections: tuple[Section, ...]
