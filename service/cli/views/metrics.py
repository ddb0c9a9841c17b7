"""Metrics of a run, for people: mAP from 0 to 100."""

from collections.abc import Iterator, Mapping

from configs.conclusions import format_points
from configs.metric_keys import Metric
from service.cli import console

_SECTIONS = ("val", "teacher", "inference", "train")
"""Sections of metric keys in the order in which they are shown; others follow."""

_POSITIONS = {str(metric): position for position, metric in enumerate(Metric)}

_HIDDEN = "loss_share/"
"""`tandem loss-shares` shows these."""


def iter_metrics(values: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield key and formatted value, the results of evaluations first, without loss shares."""
    for key in sorted(values, key=_rank):
        if not key.startswith(_HIDDEN):
            yield key, format_metric(key, values[key])


def format_metric(key: str, value: float) -> str:
    """Format a value: AP and AR times 100, gains with their sign, others with four digits."""
    if "bbox_" not in key:
        return f"{value:.4g}"
    return format_points(value) if key.startswith("gain/") else console.format_score(value)


def _rank(key: str) -> tuple[int, int, str]:
    """By section, then in the order of `Metric`; keys that it lacks follow by name."""
    section = key.partition("/")[0]
    in_sections = _SECTIONS.index(section) if section in _SECTIONS else len(_SECTIONS)
    return in_sections, _POSITIONS.get(key, len(_POSITIONS)), key
