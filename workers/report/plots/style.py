"""Style of the plots: matplotlib SVG with placeholder colors.

The page's colors follow the reader's light or dark mode. So plots are drawn with placeholder
colors, which become CSS variables on the page and light colors in separate files.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from workers.report.blocks import Picture

PALETTE = {
    "ink": ("#010203", "#1c2430", "#e8ecf1"),
    "faint": ("#010204", "#6b7684", "#98a3b1"),
    "grid": ("#010205", "#e3e7ec", "#303843"),
    "quiet": ("#010206", "#b4bcc6", "#59636f"),
    "paper": ("#010207", "#ffffff", "#171c23"),
    "student": ("#010208", "#0072b2", "#56b4e9"),
    "teacher": ("#010209", "#c27d00", "#e6a52e"),
    "baseline": ("#01020a", "#5d6875", "#aab4c0"),
    "good": ("#01020b", "#00805d", "#2cc397"),
    "bad": ("#01020c", "#c04f00", "#ff8a4c"),
}
"""Placeholder, light and dark color by name; safe for color-blind readers (Okabe and Ito, 2008) and
adjusted in lightness to the background."""

INK, FAINT, GRID, QUIET, PAPER, STUDENT, TEACHER, BASELINE, GOOD, BAD = (
    placeholder for placeholder, _, _ in PALETTE.values()
)
WIDTH_IN = 8.4
"""Width of a plot in inches; about that of the page, so that 10 points match the text."""

_COLORMAP_START, _COLORMAP_END, _COLORMAP_STEPS = 0.18, 0.93, 24
"""Range of viridis; its ends are invisible on a dark or a white background."""

# `Any` because matplotlib types the names of its settings as literals.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tandem",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": FAINT,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "axes.formatter.useoffset": False,
}


@contextmanager
def open_figure(height_in: float, *, columns: int = 1) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """Open a figure with plots side by side, to draw on and pass to `to_picture`."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)
        yield figure, list(axes[0])


def to_picture(figure: Figure, *, name: str, caption: str, alt: str) -> Picture:
    """Render a figure as inline SVG; must be called within `open_figure`."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # matplotlib only measures text with its fonts; those of the page have more glyphs.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Picture(name, _clean_svg(buffer.getvalue()), caption, alt)


def color_map() -> Colormap:
    """A perceptually uniform color map."""
    viridis = mpl.colormaps["viridis"]
    steps = [
        _COLORMAP_START + (_COLORMAP_END - _COLORMAP_START) * step / (_COLORMAP_STEPS - 1)
        for step in range(_COLORMAP_STEPS)
    ]
    return LinearSegmentedColormap.from_list(
        "tandem", [viridis(step) for step in steps], _COLORMAP_STEPS
    )


def color_for_page(svg: str) -> str:
    """Replace the placeholder colors by CSS variables of the page."""
    return _fill_colors(svg, {name: f"var(--{name})" for name in PALETTE})


def color_for_file(svg: str) -> str:
    """Replace the placeholder colors by light ones, on a white background."""
    light = {name: color for name, (_, color, _) in PALETTE.items()}
    paper = f'<rect width="100%" height="100%" fill="{light["paper"]}"/>'
    return _fill_colors(re.sub(r"(<svg[^>]*>)", rf"\1{paper}", svg, count=1), light) + "\n"


def _fill_colors(svg: str, colors: dict[str, str]) -> str:
    for name, color in colors.items():
        svg = svg.replace(PALETTE[name][0], color)
    return svg


def _clean_svg(svg: str) -> str:
    """Remove the preamble, the metadata and unused ids."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' id="(?:figure|axes|patch|text|line2d|xtick|ytick|matplotlib)[^"]*"', "", body)
    body = re.sub(r"font-family: [^;\"]*|font: [^;\"]*", _replace_font, body)
    return re.sub(r">\s+<", "><", body).strip()


def _replace_font(match: re.Match[str]) -> str:
    """Replace matplotlib's font by that of the page."""
    text = match.group(0)
    if text.startswith("font-family"):
        return "font-family: system-ui, sans-serif"
    return re.sub(r"(\d[\d.]*px).*", r"\1 system-ui, sans-serif", text)
