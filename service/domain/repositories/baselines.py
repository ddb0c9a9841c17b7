"""Repositories of baselines, which are found by digests, and of comparisons with them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from configs.protocol.comparison import Comparison
from configs.protocol.names import RunFile
from service.domain.runs import Run
from service.domain.states import RunState
from service.domain.vocabulary import ReportFormat

REPORT_FILES: Final[dict[ReportFormat, RunFile]] = {
    "html": RunFile.REPORT_PAGE,
    "md": RunFile.REPORT_MARKDOWN,
    "json": RunFile.REPORT_JSON,
}


@dataclass(frozen=True)
class StoredComparison:
    """The comparison of a distilled run with its baselines, from its newest report."""

    run_id: str
    comparison: Comparison
    at: datetime
    """When the report was imported. MLflow shows the numbers at this time, also after a retry."""


@dataclass(frozen=True)
class ReusableBaseline:
    """A run that new runs can be compared with."""

    id: str
    state: RunState


@dataclass(frozen=True)
class Score:
    """The best mAP of a run that succeeded."""

    run_id: str
    seedless_digest: str
    """Equal for runs that differ in their seed alone."""

    best_map: float


MAX_PAIRS = 32
"""The most pairs that are compared together: each costs the same, and later ones tell little."""


MAX_COMPARABLE = 1_000
"""The newest comparable runs that are looked at, so that the cost does not grow with all of them;
more of them hardly change an estimate."""


RunAndBaseline = tuple[Run, Run]
"""A distilled run and its baseline."""


class Baselines(Protocol):
    """Finds runs that are equal except for something, and the pairs of runs and baselines."""

    def find_reusable(self, spec_digest: str, *, project: str) -> ReusableBaseline | None:
        """The run that computes these numbers and that others are compared with, or None: the
        oldest one that succeeded, else the oldest viable one.

        A trial of a sweep counts only if it succeeded, since its scheduler may stop it early.
        """

    def find_seeds(self, seedless_digest: str, *, project: str) -> list[Run]:
        """Viable runs that differ in their seed alone, the oldest one of each seed.

        Among the newest `MAX_COMPARABLE`.
        """

    def find_pairs(
        self, seedless_digest: str, *, project: str, are_over: bool
    ) -> list[RunAndBaseline]:
        """Distilled runs with their baselines, one pair for each seed, oldest first.

        Both have succeeded if `are_over`, else both are viable. For each seed, the oldest pair
        that has succeeded is preferred; only the newest `MAX_PAIRS` seeds are returned. The newest
        `MAX_COMPARABLE` runs are looked at.
        """

    def find_equal_pairs(self, spec_digests: Collection[str], *, project: str) -> list[str]:
        """Ids of runs outside of sweeps with one of these digests, newest first.

        They have succeeded, and so have their baselines. The number of ids is limited.
        """

    def find_distilled_run(self, baseline_id: str) -> str | None:
        """The id of the newest run with this baseline; None if there is none."""

    def find_scores(self, seed_group_key: str, *, project: str) -> list[Score]:
        """The scores of the runs that succeeded, oldest first.

        Equal runs count once: the same seed twice would make the noise look smaller. The newest
        `MAX_COMPARABLE` runs are looked at.
        """

    def find_best_maps(self, run_ids: Collection[str]) -> dict[str, float]:
        """The best mAP of those of the runs that succeeded and have one."""

    def find_teacher_measurement(self, teacher_key: str, *, project: str) -> Run | None:
        """The newest run with this `teacher_key` that measured the mAP of its teacher."""

    def find_external_baselines(self, sweep_id: str) -> set[str]:
        """Ids of a sweep's runs that are baselines of runs outside of the sweep."""

    def find_changed(self) -> dict[str, int]:
        """Runs with a change that comparisons depend on, until `mark_compared`.

        By id, each with a number that the next change replaces. Such a change is that a run with a
        baseline was added, or that a run has ended, was retried, or has lost its report.
        """

    def find_with_lost_baseline(self) -> list[Run]:
        """Runs whose baseline has failed or is cancelled, and that are not marked so yet.

        Among runs that have changed, or whose baseline has; so are the next two.
        """

    def find_with_restored_baseline(self) -> list[Run]:
        """Runs that are marked as without a baseline, though theirs runs again or has succeeded."""

    def find_uncompared(self) -> list[Run]:
        """Runs outside of sweeps that succeeded, as did their baselines, and have no report."""

    def mark_compared(self, revisions: Mapping[str, int]) -> None:
        """Forget these changes of `find_changed`, except where something remains to be done."""

    def find_unread_reports(self) -> list[Run]:
        """Report jobs that succeeded, and whose comparisons are not imported yet."""


class Comparisons(Protocol):
    """Stores the newest comparison of each distilled run."""

    def put(self, comparison: StoredComparison) -> None:
        """Add or replace a comparison; it counts as not synced with MLflow."""

    def of_runs(self, run_ids: Collection[str]) -> dict[str, Comparison]:
        """The comparisons by run; runs without one are left out."""

    def not_synced(self) -> list[StoredComparison]:
        """Comparisons that MLflow does not have yet, oldest first."""

    def record_synced(self, comparison: StoredComparison) -> None:
        """Mark a comparison as synced with MLflow, unless a newer one has replaced it."""
