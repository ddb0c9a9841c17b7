"""Ratios of two measured quantities, taken in turns, as a table in Markdown and as JSON.

Other work on the machine changes durations within a second, but falls on both sides of a round. A
ratio of one round is therefore worth more than a ratio of two means.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True)
class Comparison:
    """Durations, or peaks of memory, of the same work done in two ways, one pair for each round.

    Raises `ValueError` without rounds, and if one side has more of them.
    """

    name: str
    tandem: list[float]
    reference: list[float]
    target: float | None = None
    """The largest ratio that is good enough; None if the ratio is only reported."""

    unit: Literal["s", "MiB"] = "s"

    def __post_init__(self) -> None:
        if not self.tandem or len(self.tandem) != len(self.reference):
            raise ValueError(
                f"{self.name} has {len(self.tandem)} and {len(self.reference)} durations; each "
                "round measures both sides, and there is at least one."
            )

    @property
    def ratios(self) -> list[float]:
        """Tandem's divided by the reference, by round."""
        return [own_s / other_s for own_s, other_s in zip(self.tandem, self.reference, strict=True)]

    @property
    def ratio(self) -> float:
        """Median over the rounds."""
        return median(self.ratios)

    @property
    def meets_target(self) -> bool | None:
        """None without a target."""
        return None if self.target is None else self.ratio <= self.target


def measure_alternately(
    tandem: Callable[[], object], reference: Callable[[], object], *, rounds: int, warm_up: int = 1
) -> tuple[list[float], list[float]]:
    """Durations in seconds of both functions, by round, after `warm_up` rounds that fill caches.

    The side that begins changes with each round, so that none always follows the other.
    """
    functions = (tandem, reference)
    seconds: tuple[list[float], list[float]] = ([], [])
    for round_index in range(-warm_up, rounds):
        for side in (0, 1) if round_index % 2 == 0 else (1, 0):
            duration_s = measure_s(functions[side])
            if round_index >= 0:
                seconds[side].append(duration_s)
    return seconds


def measure_s(function: Callable[[], object]) -> float:
    """Duration of one call in seconds."""
    start_s = time.perf_counter()
    function()
    return time.perf_counter() - start_s


def format_markdown(comparisons: Sequence[Comparison]) -> str:
    """A table with a line for each comparison: the medians, the ratio with its range, the target.

    Without rounds of one side a ratio has no meaning, so medians are only for orientation.
    """
    lines = [
        "| what | Tandem | reference | ratio | min to max | target |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    lines += [_format_line(comparison) for comparison in comparisons]
    return "\n".join(lines) + "\n"


def build_document(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The comparisons as a JSON document, with every round."""
    return [
        {
            "name": comparison.name,
            "ratio": round(comparison.ratio, 4),
            "smallest_ratio": round(min(comparison.ratios), 4),
            "largest_ratio": round(max(comparison.ratios), 4),
            "target": comparison.target,
            "unit": comparison.unit,
            "meets_target": comparison.meets_target,
            "tandem": comparison.tandem,
            "reference": comparison.reference,
        }
        for comparison in comparisons
    ]


def write_report(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write `<path>.md` and `<path>.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(format_markdown(comparisons), encoding="utf-8")
    document = json.dumps(build_document(comparisons), indent=2)
    path.with_suffix(".json").write_text(document + "\n", encoding="utf-8")


def _format_line(comparison: Comparison) -> str:
    tandem, reference = median(comparison.tandem), median(comparison.reference)
    ratios = comparison.ratios
    cells = (
        comparison.name,
        _format_quantity(tandem, comparison.unit),
        _format_quantity(reference, comparison.unit),
        f"{comparison.ratio:.3f}",
        f"{min(ratios):.3f} to {max(ratios):.3f}",
        _format_target(comparison),
    )
    return f"| {' | '.join(cells)} |"


def _format_quantity(value: float, unit: Literal["s", "MiB"]) -> str:
    if unit == "MiB":
        return f"{value:,.0f} MiB"
    for name, scale in (("s", 1.0), ("ms", 1e3)):
        if abs(value) * scale >= 1.0:
            return f"{value * scale:.3g} {name}"
    return f"{value * 1e6:.3g} us"


def _format_target(comparison: Comparison) -> str:
    if comparison.target is None:
        return ""
    return f"{comparison.target:.3g}, {'met' if comparison.meets_target else 'missed'}"
