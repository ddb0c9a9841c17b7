"""A report as one HTML file that needs nothing else: no scripts, no network."""

import base64
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from workers.report.blocks import Block, Photo, Picture, ReportContent
from workers.report.plots.style import PALETTE, color_for_page


def render_page(content: ReportContent) -> str:
    """The page; every word is escaped, whoever chose it."""
    environment = Environment(
        loader=PackageLoader("workers.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": format_moment,
        "drawn": _drawn,
        "source": _source,
        "kind": _kind,
    }
    return environment.get_template("page.html.jinja").render(
        content=content, light=_variables(1), dark=_variables(2)
    )


def format_moment(at: datetime) -> str:
    """As in `26 November 2026, 14:05 UTC`."""
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _kind(block: Block) -> str:
    return type(block).__name__.lower()


def _drawn(picture: Picture) -> Markup:
    """matplotlib has escaped the words in it."""
    return Markup(color_for_page(picture.svg))


def _source(photo: Photo) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(photo.jpeg).decode('ascii')}"


def _variables(column: int) -> Markup:
    """The palette as CSS: 1 its light colours, 2 its dark ones."""
    lines = [f"--{name}: {colors[column]};" for name, colors in PALETTE.items()]
    return Markup(" ".join(lines))
