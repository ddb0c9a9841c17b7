"""Renders the report of an autopilot as Markdown."""

import html
import re
from collections.abc import Iterator, Sequence

from service.domain.autopilot.report.page import AutopilotReport, FrontPlot, PageBlock, PageTable

_MARKUP = re.compile(r"[\\*_\[\]|~#]")


def to_markdown(report: AutopilotReport) -> str:
    """The text. Plots are left out: the tables beside them have the same numbers."""
    lines = [
        f"# {_escape(report.title)}",
        f"**{_escape(report.headline)}**",
        f"{report.autopilot}, {report.at:%Y-%m-%d %H:%M} UTC. {_escape(report.subject)}",
    ]
    for section in report.sections:
        lines.append(f"## {_escape(section.title)}")
        lines += [text for block in section.blocks for text in _render_block(block)]
    return "\n\n".join(lines) + "\n"


def _render_block(block: PageBlock) -> Iterator[str]:
    if isinstance(block, FrontPlot):
        return
    if isinstance(block, PageTable):
        separator = _join_cells(["---"] * len(block.columns))
        header = _join_cells([_escape(column) for column in block.columns])
        rows = [_join_cells([_escape(cell) for cell in row]) for row in block.rows]
        yield "\n".join([header, separator, *rows])
    else:
        yield _escape(block.text)


def _join_cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Plain text as Markdown; code between backticks stays code."""
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:  # a single backtick is no code
        return _escape_markup("`".join(parts)).replace("`", r"\`")
    return "`".join(
        part if number % 2 else _escape_markup(part) for number, part in enumerate(parts)
    )


def _escape_markup(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", html.escape(text, quote=False))
