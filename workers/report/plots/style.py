"""How pictures are drawn: matplotlib to SVG, in colours that page and files fill in later.

The page's colours follow the reader's light or dark setting, so pictures are drawn in stand-ins:
on the page those become CSS variables, in files the light colours themselves.
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
"""By name a stand-in, the light and the dark colour; told apart by colour-blind people too, after
Okabe and Ito (2008), darkened or lightened to stand out from the paper."""

INK, FAINT, GRID, QUIET, PAPER, STUDENT, TEACHER, BASELINE, GOOD, BAD = (
    stand_in for stand_in, _, _ in PALETTE.values()
)
WIDTH_IN = 8.4
"""A picture's width; the page is about as wide, so that 10 points are read as text."""

_FIRST, _LAST, _STEPS = 0.18, 0.93, 24
"""Of viridis: its ends are lost on dark or on white paper."""

# matplotlib takes no other names than those that it lists as literals.
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
    """A figure with plots beside each other, to be drawn on and handed to `to_picture`."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)
        yield figure, list(axes[0])


def to_picture(figure: Figure, *, name: str, caption: str, alt: str) -> Picture:
    """The figure as SVG that can stand inside of a page; to be called while `open_figure` is open."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # matplotlib only measures with its own letters; the page's have those that it lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Picture(name, _inlined(buffer.getvalue()), caption, alt)


def color_map() -> Colormap:
    """From low to high; equally told apart along its whole length."""
    viridis = mpl.colormaps["viridis"]
    steps = [_FIRST + (_LAST - _FIRST) * step / (_STEPS - 1) for step in range(_STEPS)]
    return LinearSegmentedColormap.from_list("tandem", [viridis(step) for step in steps], _STEPS)


def color_for_page(svg: str) -> str:
    """With the page's CSS variables as colours."""
    return _filled(svg, {name: f"var(--{name})" for name in PALETTE})


def color_for_file(svg: str) -> str:
    """As a file of its own: light colours on white paper."""
    light = {name: color for name, (_, color, _) in PALETTE.items()}
    paper = f'<rect width="100%" height="100%" fill="{light["paper"]}"/>'
    return _filled(re.sub(r"(<svg[^>]*>)", rf"\1{paper}", svg, count=1), light) + "\n"


def _filled(svg: str, colors: dict[str, str]) -> str:
    for name, color in colors.items():
        svg = svg.replace(PALETTE[name][0], color)
    return svg


def _inlined(svg: str) -> str:
    """Without the file's preamble and what no reader sees."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' id="(?:figure|axes|patch|text|line2d|xtick|ytick|matplotlib)[^"]*"', "", body)
    body = re.sub(r"font-family: [^;\"]*|font: [^;\"]*", _without_family, body)
    return re.sub(r">\s+<", "><", body).strip()


def _without_family(match: re.Match[str]) -> str:
    """The page's own letters instead of matplotlib's."""
    text = match.group(0)
    if text.startswith("font-family"):
        return "font-family: system-ui, sans-serif"
    return re.sub(r"(\d[\d.]*px).*", r"\1 system-ui, sans-serif", text)
