"""Style of the plots: matplotlib SVG with placeholder colors, in a wide and a narrow layout.

The page's colors follow the reader's light or dark mode. So plots are drawn with placeholder
colors, which become CSS variables on the page and light colors in separate files. Each plot is
drawn for a wide and for a narrow page: an SVG that is scaled to a phone has letters of 6 pixels.
"""

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from workers.report.blocks import Picture
from workers.report.wording import format_scalar

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
_WIDE_IN, _NARROW_IN = 8.4, 4.6
"""Width of a plot in inches; about that of a page and of a phone, so that 10 points match the
text."""

_LEGEND_LINE_PT, _LEGEND_LETTER_PT, _LEGEND_HANDLE_PT = 15.0, 5.6, 38.0
"""Height of a line of a legend, width of a letter and of a handle with its spaces, in points."""

_DETAILED_TICKS_DECADES = 2.5
"""Axes with fewer decades have ticks at 1, 2 and 5 in each."""

_COLORMAP_START, _COLORMAP_END, _COLORMAP_STEPS = 0.18, 0.93, 24
"""Range of viridis; its ends are invisible on a dark or a white background."""

# `Any` because matplotlib types the names of its settings as literals.
_STYLE: Any = {
    "svg.fonttype": "none",
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


@dataclass(frozen=True)
class Canvas:
    """An empty figure in one of the two layouts."""

    figure: Figure
    plots: tuple[Axes, ...]
    is_narrow: bool


def draw_picture(
    draw: Callable[[Canvas], None],
    *,
    height_in: float,
    name: str,
    caption: str,
    alt: str,
    num_plots: int = 1,
) -> Picture:
    """Draw a picture once in each layout, as inline SVG.

    Several plots are side by side in the wide layout, each `height_in` high, and below each other
    in the narrow one.
    """
    wide, narrow = (
        _draw_svg(draw, height_in=height_in, num_plots=num_plots, name=name, is_narrow=is_narrow)
        for is_narrow in (False, True)
    )
    return Picture(name, wide, narrow, caption, alt)


def draw_legend(axes: Axes, *, title: str = "", order: Sequence[str] = ()) -> None:
    """Put the title above the plot and the legend between both, where it hides no data.

    Entries are drawn once, in the given order, then those that it lacks.
    """
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    sorted_labels = [label for label in order if label in by_label]
    sorted_labels += [label for label in by_label if label not in sorted_labels]
    columns = _count_legend_columns(axes, sorted_labels)
    lines = -(-len(sorted_labels) // columns)
    if title:
        axes.set_title(title, pad=5.0 + _LEGEND_LINE_PT * lines)
    axes.legend(
        [by_label[label] for label in sorted_labels],
        sorted_labels,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.0,
        borderpad=0.2,
        handlelength=1.6,
        columnspacing=1.2,
    )


def set_log_scale(axes: Axes, side: int, values: Sequence[float]) -> None:
    """Set a log scale of the x axis (`side` 0) or the y axis (1) that holds `values`, none below 0.

    It is linear below the smallest value that is not 0 if there are values of 0.
    """
    set_scale, axis = ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis))[side]
    smallest = min((value for value in values if value > 0), default=1.0)
    if min(values) > 0:
        set_scale("log")
    else:
        set_scale("symlog", linthresh=smallest)
        return
    decades = math.log10(max(values) / smallest)
    axis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if decades < _DETAILED_TICKS_DECADES else (1.0,))
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_scalar(float(value))))
    axis.set_minor_locator(NullLocator())


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
    """Replace the placeholder colors by CSS variables; the page decides about the size."""
    tag, body = svg.split(">", 1)
    sizeless = re.sub(r' (?:width|height)="[^"]*"', "", tag) + ">" + body
    return _fill_colors(sizeless, {name: f"var(--{name})" for name in PALETTE})


def color_for_file(svg: str) -> str:
    """Replace the placeholder colors by light ones, on a white background."""
    light = {name: color for name, (_, color, _) in PALETTE.items()}
    paper = f'<rect width="100%" height="100%" fill="{light["paper"]}"/>'
    return _fill_colors(re.sub(r"(<svg[^>]*>)", rf"\1{paper}", svg, count=1), light) + "\n"


def _draw_svg(
    draw: Callable[[Canvas], None], *, height_in: float, num_plots: int, name: str, is_narrow: bool
) -> str:
    # Ids differ between the layouts: a page has both, and hides one with its definitions.
    style = _STYLE | {"svg.hashsalt": f"{name}-narrow" if is_narrow else name}
    rows, columns = (num_plots, 1) if is_narrow else (1, num_plots)
    with mpl.rc_context(style):
        size_in = (_NARROW_IN if is_narrow else _WIDE_IN, height_in * rows)
        figure = Figure(figsize=size_in, layout="constrained")
        plots = figure.subplots(rows, columns, squeeze=False)
        draw(Canvas(figure, tuple(plots.flat), is_narrow))
        return _render_svg(figure)


def _render_svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # matplotlib only measures text with its fonts; those of the page have more glyphs.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _clean_svg(buffer.getvalue())


def _count_legend_columns(axes: Axes, labels: Sequence[str]) -> int:
    """The number of legend entries that fit beside each other; at least one."""
    gridspec = axes.get_gridspec()
    assert gridspec is not None
    figure_width_in = axes.figure.get_window_extent().width / axes.figure.dpi
    available_pt = 72 * figure_width_in / gridspec.ncols
    longest = max(map(len, labels), default=1)
    entry_pt = _LEGEND_HANDLE_PT + _LEGEND_LETTER_PT * longest
    total_pt = sum(_LEGEND_HANDLE_PT + _LEGEND_LETTER_PT * len(label) for label in labels)
    if total_pt <= available_pt:
        return max(1, len(labels))
    return max(1, int(available_pt // entry_pt))


def _fill_colors(svg: str, colors: dict[str, str]) -> str:
    for name, color in colors.items():
        svg = svg.replace(PALETTE[name][0], color)
    return svg


def _clean_svg(svg: str) -> str:
    """Remove the preamble, the metadata and unused ids."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' id="[^"]*_\d+"', "", body)  # of groups; others are hashes
    body = re.sub(r"font-family: [^;\"]*|font: [^;\"]*", _replace_font, body)
    return re.sub(r">\s+<", "><", body).strip()


def _replace_font(match: re.Match[str]) -> str:
    """Replace matplotlib's font by that of the page."""
    text = match.group(0)
    if text.startswith("font-family"):
        return "font-family: system-ui, sans-serif"
    return re.sub(r"(\d[\d.]*px).*", r"\1 system-ui, sans-serif", text)
