"""The tables of docs/evidence.md, from the sweeps that trained their runs.

`python -m tests.bench.evidence s8k2... [s7j1...]`: reads the service that TANDEM_URL or the home
names, as the shell does. All tests of one table share Holm's correction.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from scipy import stats

from configs.protocol.comparison import SeedGain
from service.api.schemas.sweeps import TrialView
from service.cli.session import open_client
from service.client import TandemClient

LEVEL = 0.05
"""Probability of a verdict about any row if no row has an effect."""

_HEADER = (
    "| method | mAP | alone | gain, 95 % interval | gain by seed | p after Holm | verdict |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
)


@dataclass(frozen=True)
class Row:
    """A method's runs, each with the gain over the student alone of the same seed."""

    name: str
    gains: tuple[SeedGain, ...]

    @property
    def differences(self) -> list[float]:
        """Gains in points of mAP."""
        return [100.0 * pair.gain for pair in self.gains]

    @property
    def probability(self) -> float:
        """Two-sided p of a paired t-test, before Holm's correction."""
        return float(stats.ttest_1samp(self.differences, 0.0).pvalue)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean gain in points, by Student's t over the seeds."""
        low, high = stats.ttest_1samp(self.differences, 0.0).confidence_interval(0.95)
        return float(low), float(high)


def correct_by_holm(probabilities: Sequence[float]) -> list[float]:
    """Adjusted p of each test, in the order given (Holm 1979)."""
    adjusted = [0.0] * len(probabilities)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(probabilities)), key=probabilities.__getitem__)):
        largest = max(largest, min(1.0, (len(probabilities) - rank) * probabilities[index]))
        adjusted[index] = largest
    return adjusted


def format_table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, in the order given."""
    adjusted = correct_by_holm([row.probability for row in rows])
    return "\n".join([_HEADER, *map(_format_row, rows, adjusted)]) + "\n"


def _format_row(row: Row, adjusted: float) -> str:
    low, high = row.interval
    gain = mean(row.differences)
    verdict = "cannot tell"
    if adjusted <= LEVEL:
        verdict = "helps" if gain > 0.0 else "hurts"
    cells = (
        row.name,
        f"{100.0 * mean(pair.run_map for pair in row.gains):.1f}",
        f"{100.0 * mean(pair.baseline_map for pair in row.gains):.1f}",
        f"{gain:+.1f} [{low:+.1f}, {high:+.1f}]",
        ", ".join(f"{difference:+.1f}" for difference in row.differences),
        f"{adjusted:.3f}",
        verdict,
    )
    return f"| {' | '.join(cells)} |"


def read_rows(client: TandemClient, sweep_id: str) -> list[Row]:
    """A row for each trial. Raises `ValueError` if a trial has no comparison over several seeds."""
    return [
        _read_row(client, _describe(trial), trial.runs[0].id) for trial in client.trials(sweep_id)
    ]


def _read_row(client: TandemClient, name: str, run_id: str) -> Row:
    comparison = client.run_details(run_id).comparison
    if comparison is None or len(comparison.gains) < 2:
        raise ValueError(f"{name} ({run_id}) has no comparison over two seeds or more yet")
    return Row(name, tuple(sorted(comparison.gains, key=lambda pair: pair.seed)))


def _describe(trial: TrialView) -> str:
    """The method, and the other values that the sweep gave it."""
    values = dict(trial.values)
    method = values.pop("distillation.method")
    details = [f"{path.rpartition('.')[2]} {value}" for path, value in values.items()]
    return ", ".join([f"`{method}`", *details])


def main() -> None:
    """Print the table of all trials of the sweeps, and one of the controls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweeps", nargs="+", help="ids of the sweeps of docs/evidence.md")
    parser.add_argument(
        "--control", nargs="*", default=(), help="the first run of each control, for its own table"
    )
    arguments = parser.parse_args()
    with open_client() as client:
        rows = [row for sweep in arguments.sweeps for row in read_rows(client, sweep)]
        sys.stdout.write(format_table(rows))
        if arguments.control:
            controls = [_read_control(client, run_id) for run_id in arguments.control]
            sys.stdout.write(format_table(controls))


def _read_control(client: TandemClient, run_id: str) -> Row:
    document = client.run_document(run_id)
    spec = document["spec"]
    if not isinstance(spec, dict) or not spec.get("control"):
        raise ValueError(f"{run_id} is no control")
    return _read_row(client, str(spec["control"]), run_id)


if __name__ == "__main__":
    main()
