"""Renders a report as Markdown with its pictures as separate files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workers.report.blocks import (
    Block,
    Cell,
    Commands,
    Gallery,
    Panels,
    Paragraph,
    Picture,
    Placeholder,
    ReportContent,
    Row,
    Section,
    Table,
)
from workers.report.plots.style import color_for_file
from workers.report.render.html import format_moment

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True)
class Markdown:
    """The text, and the files that it refers to, by name."""

    text: str
    files: dict[str, bytes]


def render_markdown(content: ReportContent) -> Markdown:
    """Render the text and its pictures."""
    lines = list(_lines(content))
    files: dict[str, bytes] = {}
    for section in content.sections:
        for block in section.blocks:
            files |= _files(block)
    return Markdown("\n\n".join(lines) + "\n", files)


def escape_markdown(text: str) -> str:
    """Escape Markdown and HTML, and join lines."""
    escaped = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return "".join(_ENTITIES.get(letter, letter) for letter in escaped)


def _lines(content: ReportContent) -> Iterator[str]:
    yield f"# {escape_markdown(content.title)}"
    yield f"**{escape_markdown(content.headline.sentence)}**"
    for sentence in content.headline.support:
        yield escape_markdown(sentence)
    yield f"{escape_markdown(content.subject)}, {format_moment(content.at)}"
    if content.links:
        yield " · ".join(
            f"[{escape_markdown(link.title)}](<{link.href}>)" for link in content.links
        )
    for section in content.sections:
        yield from _section_lines(section)


def _section_lines(section: Section) -> Iterator[str]:
    yield f"## {escape_markdown(section.title)}"
    for block in section.blocks:
        yield from _block_lines(block)


def _block_lines(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield escape_markdown(block.text)
    elif isinstance(block, Placeholder):
        yield f"*{escape_markdown(block.reason)}*"
    elif isinstance(block, Table):
        if block.title is not None:
            yield f"### {escape_markdown(block.title)}"
        yield "\n".join(_table_lines(block))
    elif isinstance(block, Commands):
        yield _code_block(block)
    elif isinstance(block, Panels):
        yield "\n".join(_panel_lines(block))
        yield f"*{escape_markdown(block.caption)}*"
    elif isinstance(block, Picture):
        yield f"![{escape_markdown(block.alt)}]({block.name}.svg)"
        yield f"*{escape_markdown(block.caption)}*"
    else:
        for photo in block.photos:
            yield f"![{escape_markdown(photo.caption)}]({photo.name}.jpg)"
            yield f"*{escape_markdown(photo.caption)}*"


def _code_block(block: Commands) -> str:
    text = "\n".join(block.lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}bash\n{text}\n{fence}"


def _panel_lines(block: Panels) -> Iterator[str]:
    """The images side by side, as a table."""
    captions = [escape_markdown(photo.caption) for photo in block.photos]
    names = [photo.name for photo in block.photos]
    yield _row(iter(captions))
    yield _row("---" for _ in captions)
    yield _row(f"![{text}]({name}.jpg)" for text, name in zip(captions, names, strict=True))


def _table_lines(table: Table) -> Iterator[str]:
    yield _row(escape_markdown(column.title) for column in table.columns)
    yield _row("---:" if column.is_number else "---" for column in table.columns)
    for row in table.rows:
        yield _row(_cells(row))


def _row(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> Iterator[str]:
    for cell in row.cells:
        text = _cell(cell)
        yield f"**{text}**" if row.is_marked and text else text


def _cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return text if cell.href is None else f"[{text}](<{cell.href}>)"


def _files(block: Block) -> dict[str, bytes]:
    if isinstance(block, Picture):
        return {f"{block.name}.svg": color_for_file(block.svg).encode()}
    if isinstance(block, Gallery | Panels):
        return {f"{photo.name}.jpg": photo.jpeg for photo in block.photos}
    return {}
