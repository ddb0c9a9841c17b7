"""Renders the report of an autopilot as a web page of one file, without scripts."""

import html
from collections.abc import Iterator

from service.domain.autopilot.report.page import (
    AutopilotReport,
    FrontPlot,
    MeasuredModel,
    PageBlock,
    PageTable,
)

_STYLE = """
:root { color-scheme: light dark; --accent: #0b6bcb; --quiet: #8a8f98; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 0.9rem; }
th, td { border-bottom: 1px solid var(--quiet); padding: 0.3rem 0.7rem 0.3rem 0; text-align: left;
  vertical-align: top; }
svg text { fill: currentColor; font-size: 12px; }
"""
_WIDTH, _HEIGHT, _MARGIN = 640, 320, 56
_LABEL_OFFSET = 9


def to_web_page(report: AutopilotReport) -> str:
    """The page; all text is escaped."""
    title = html.escape(report.title)
    subject = html.escape(report.subject)
    sections = "\n".join(
        f"<h2>{html.escape(section.title)}</h2>\n" + "\n".join(map(_render_block, section.blocks))
        for section in report.sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f"<p><strong>{html.escape(report.headline)}</strong></p>\n"
        f"<p>{report.autopilot}, {report.at:%Y-%m-%d %H:%M} UTC. {subject}</p>\n"
        f"{sections}\n</body>\n</html>\n"
    )


def _render_block(block: PageBlock) -> str:
    if isinstance(block, FrontPlot):
        return _draw_front(block.models)
    if isinstance(block, PageTable):
        rows = "\n".join(_render_row(row, tag="td") for row in block.rows)
        return f"<table>\n{_render_row(block.columns, tag='th')}\n{rows}\n</table>"
    return f"<p>{html.escape(block.text)}</p>"


def _render_row(cells: tuple[str, ...], *, tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _draw_front(models: tuple[MeasuredModel, ...]) -> str:
    """Latency to the right, mAP upwards, and the front as a line."""
    front = sorted(
        (_locate(model, models) for model in models if model.is_on_front),
        key=lambda point: point[0],
    )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in front)
    return "\n".join(
        (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
            'aria-label="mAP against latency">',
            f'<polyline points="{line}" fill="none" stroke="var(--accent)"/>',
            *(_draw_model(model, models) for model in models),
            *_draw_axes(models),
            "</svg>",
        )
    )


def _draw_model(model: MeasuredModel, models: tuple[MeasuredModel, ...]) -> str:
    x, y = _locate(model, models)
    color = "var(--accent)" if model.is_on_front else "var(--quiet)"
    radius = 6 if model.is_delivered else 4
    label = html.escape(f"{model.label} (delivered)" if model.is_delivered else model.label)
    is_right = x > _WIDTH / 2
    anchor, offset = ("end", -_LABEL_OFFSET) if is_right else ("start", _LABEL_OFFSET)
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"/>'
        f'<text x="{x + offset:.1f}" y="{y - _LABEL_OFFSET:.1f}" text-anchor="{anchor}">'
        f"{label}</text>"
    )


def _draw_axes(models: tuple[MeasuredModel, ...]) -> Iterator[str]:
    start, bottom = _MARGIN / 2, _HEIGHT - _MARGIN / 2
    yield (
        f'<path d="M{start} {_MARGIN / 2}V{bottom}H{_WIDTH - _MARGIN / 2}" fill="none" '
        'stroke="var(--quiet)"/>'
    )
    latencies = [model.latency_ms for model in models]
    maps = [100.0 * model.mean_ap for model in models]
    yield f'<text x="{start}" y="14">mAP, {min(maps):.1f} to {max(maps):.1f}</text>'
    yield (
        f'<text x="{_WIDTH - _MARGIN / 2}" y="{_HEIGHT - 8}" text-anchor="end">median latency, '
        f"{min(latencies):.1f} to {max(latencies):.1f} ms</text>"
    )


def _locate(model: MeasuredModel, models: tuple[MeasuredModel, ...]) -> tuple[float, float]:
    """Position in the plot, in pixels from the top x_axis."""
    x = _scale(model.latency_ms, [other.latency_ms for other in models])
    y = _scale(model.mean_ap, [other.mean_ap for other in models])
    return (
        _MARGIN + x * (_WIDTH - 2 * _MARGIN),
        _HEIGHT - _MARGIN - y * (_HEIGHT - 2 * _MARGIN),
    )


def _scale(value: float, values: list[float]) -> float:
    """Between 0 for the smallest and 1 for the largest; the middle if all are equal."""
    low, high = min(values), max(values)
    return 0.5 if high == low else (value - low) / (high - low)
