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
class StoredComparison:
    """What a report says of a run."""

    run_id: str
    comparison: Comparison
    at: datetime
    """When it was read: MLflow shows the numbers at this time, however often it is told."""


@dataclass(frozen=True)
class Score:
    """How good one run became."""

    run_id: str
    seedless_digest: str
    """Equal for runs that differ in their seed alone."""

    best_map: float


MAX_PAIRS = 32
"""Pairs of one family that are compared together: more cost as much again and tell little."""


RunAndBaseline = tuple[Run, Run]
"""A distilled run and the run of the same student, seed and batches without a teacher."""


class Baselines(Protocol):
    """Runs of a project that are equal but for something."""

    def find_by_spec_digest(self, spec_digest: str, *, project: str) -> list[Run]:
        """Those that compute the same numbers, oldest first."""

    def find_by_seedless_digest(self, seedless_digest: str, *, project: str) -> list[Run]:
        """Those that differ in their seed alone, oldest first."""

    def find_pairs(
        self, seedless_digest: str, *, project: str, are_over: bool
    ) -> list[RunAndBaseline]:
        """Distilled runs of a family with their baselines, one pair for each seed, oldest first.

        Both have succeeded (`are_over`), or have not ended badly and are not asked to. Of runs
        with one seed a pair that has succeeded is taken, the oldest; of seeds the newest
        `MAX_PAIRS`.
        """

    def find_equal_pairs(self, spec_digests: Iterable[str], *, project: str) -> list[str]:
        """Ids of runs outside of sweeps that compute the same numbers as one of these, and have
        succeeded as their baselines have: the newest ones, a bounded number."""

    def find_distilled_run(self, baseline_id: str) -> str | None:
        """The newest run that has this one as its baseline; none: there is none."""

    def find_scores(self, seed_group_key: str, *, project: str) -> list[Score]:
        """Of those that succeeded and scatter alike, oldest first; equal runs count once."""

    def find_with_teacher_map(self, *, project: str, limit: int) -> list[Run]:
        """Those that know their teacher's mAP, newest first."""

    def find_external_baselines(self, sweep_id: str) -> set[str]:
        """Runs of a sweep that are the baselines of runs outside of it."""

    def find_with_lost_baseline(self) -> list[Run]:
        """Those whose baseline has failed or is cancelled, and nobody was told."""

    def find_with_restored_baseline(self) -> list[Run]:
        """Those whose baseline was lost, and goes on or has succeeded."""

    def find_uncompared(self) -> list[Run]:
        """Those outside of sweeps that succeeded, as their baselines did, and have no report."""

    def find_unread_reports(self) -> list[Run]:
        """Reports that succeeded, and nobody has taken the comparisons from them."""


class Comparisons(Protocol):
    """What became of distilled runs beside their baselines: the newest report's word."""

    def put(self, kept: StoredComparison) -> None:
        """Add or replace; the tracker is to be told."""

    def of_runs(self, run_ids: Iterable[str]) -> dict[str, Comparison]:
        """By run; those without one are left out."""

    def not_synced(self) -> list[StoredComparison]:
        """Those that the tracker was not told."""

    def record_synced(self, kept: StoredComparison) -> None:
        """The tracker has it; a newer one of the same run stays to be told."""
