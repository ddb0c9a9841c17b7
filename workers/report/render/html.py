"""Renders a report as a self-contained HTML file without scripts or network access."""

import base64
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from workers.report.blocks import Block, Photo, ReportContent
from workers.report.plots.style import PALETTE, color_for_page


def render_page(content: ReportContent) -> str:
    """Render the page; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("workers.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": format_moment,
        "svg": _inline_svg,
        "source": _jpeg_data_url,
        "kind": _macro_name,
    }
    return environment.get_template("page.html.jinja").render(
        content=content, light=_css_variables(1), dark=_css_variables(2)
    )


def format_moment(at: datetime) -> str:
    """Format a time in UTC, as in `26 November 2026, 14:05 UTC`."""
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _macro_name(block: Block) -> str:
    return type(block).__name__.lower()


def _inline_svg(svg: str) -> Markup:
    """Mark the SVG of a picture as safe: matplotlib has escaped its text."""
    return Markup(color_for_page(svg))


def _jpeg_data_url(photo: Photo) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(photo.jpeg).decode('ascii')}"


def _css_variables(column: int) -> Markup:
    """The palette as CSS variables; column 1 has the light colors, 2 the dark ones."""
    lines = [f"--{name}: {colors[column]};" for name, colors in PALETTE.items()]
    return Markup(" ".join(lines))
