"""Comparisons and equal runs as they are kept, as small protocols: the database implements them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from configs.protocol.names import RunFile
from configs.protocol.report import Comparison
from service.domain.runs import Run

ReportFormat = Literal["html", "md", "json"]
"""A page, text, and what programs read."""

REPORT_FILES: Final[dict[ReportFormat, RunFile]] = {
    "html": RunFile.REPORT_PAGE,
    "md": RunFile.REPORT_MARKDOWN,
    "json": RunFile.REPORT_JSON,
}


@dataclass(frozen=True)
class KeptComparison:
    """What a report says of a run."""

    run_id: str
    comparison: Comparison
    at: datetime
    """When it was read: MLflow shows the numbers at this time, however often it is told."""


@dataclass(frozen=True)
class Score:
    """How good one run became."""

    run_id: str
    family: str
    """Equal for runs that differ in their seed alone."""

    best_map: float


MOST_PAIRS = 32
"""Pairs of one family that are compared together: more cost as much again and tell little."""


RunAndBaseline = tuple[Run, Run]
"""A distilled run and the run of the same student, seed and batches without a teacher."""


class Twins(Protocol):
    """Runs of a project that are equal but for something."""

    def equal(self, spec_digest: str, *, project: str) -> list[Run]:
        """Those that compute the same numbers, oldest first."""

    def family(self, family_digest: str, *, project: str) -> list[Run]:
        """Those that differ in their seed alone, oldest first."""

    def pairs(self, family_digest: str, *, project: str, are_over: bool) -> list[RunAndBaseline]:
        """Distilled runs of a family with their baselines, one pair for each seed, oldest first.

        Both have succeeded (`are_over`), or have not ended badly and are not asked to. Of runs
        with one seed a pair that has succeeded is taken, the oldest; of seeds the newest
        `MOST_PAIRS`.
        """

    def equal_pairs(self, spec_digests: Iterable[str], *, project: str) -> list[str]:
        """Ids of runs outside of sweeps that compute the same numbers as one of these, and have
        succeeded as their baselines have: the newest ones, a bounded number."""

    def taught_beside(self, baseline_id: str) -> str | None:
        """The newest run that has this one as its baseline; none: there is none."""

    def scores(self, noise_key: str, *, project: str) -> list[Score]:
        """Of those that succeeded and scatter alike, oldest first; equal runs count once."""

    def that_measured_a_teacher(self, *, project: str, limit: int) -> list[Run]:
        """Those that know their teacher's mAP, newest first."""

    def wanted_elsewhere(self, sweep_id: str) -> set[str]:
        """Runs of a sweep that are the baselines of runs outside of it."""

    def without_baseline(self) -> list[Run]:
        """Those whose baseline has failed or is cancelled, and nobody was told."""

    def with_baseline_again(self) -> list[Run]:
        """Those whose baseline was lost, and goes on or has succeeded."""

    def to_compare(self) -> list[Run]:
        """Those outside of sweeps that succeeded, as their baselines did, and have no report."""

    def reports_to_read(self) -> list[Run]:
        """Reports that succeeded, and nobody has taken the comparisons from them."""


class Comparisons(Protocol):
    """What became of distilled runs beside their baselines: the newest report's word."""

    def put(self, kept: KeptComparison) -> None:
        """Add or replace; the tracker is to be told."""

    def of_runs(self, run_ids: Iterable[str]) -> dict[str, Comparison]:
        """By run; those without one are left out."""

    def to_show(self) -> list[KeptComparison]:
        """Those that the tracker was not told."""

    def note_shown(self, kept: KeptComparison) -> None:
        """The tracker has it; a newer one of the same run stays to be told."""
