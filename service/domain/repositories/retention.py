"""Repository of what retention deletes."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from service.domain.retention import FinishedRun, RunRows


class Retention(Protocol):
    """Finds and deletes what is old; deletions are limited, so that each transaction is short."""

    def finished_runs(
        self, *, before: datetime, after: tuple[datetime, str] | None, limit: int
    ) -> list[FinishedRun]:
        """Runs that were over `before`, by end and id; behind the end and id of `after`."""

    def find_referenced(self, run_ids: Collection[str]) -> set[str]:
        """Those of the runs whose files others need.

        They are the teacher or model of another run, a baseline, have a report or are one, belong
        to a sweep that is not over, or a registered teacher is one of their files.
        """

    def sweeps_of(self, run_ids: Collection[str]) -> dict[str, tuple[str, int]]:
        """By run, the sweep and the number of the trial; without runs that are no trials."""

    def count(self, rows: RunRows, run_ids: Collection[str]) -> int:
        """The number of rows of these runs."""

    def delete(self, rows: RunRows, run_ids: Collection[str], *, limit: int) -> int:
        """Delete up to `limit` rows of these runs; returns their number."""

    def mark_files_deleted(self, run_ids: Collection[str], *, at: datetime) -> None:
        """Record that files of these runs are deleted."""

    def has_deleted_files(self, run_id: str) -> bool:
        """Whether files of the run were deleted."""

    def prune_sweep_keys(self, before: datetime, *, is_dry_run: bool) -> int:
        """Delete the idempotency keys of sweeps that were over `before`; returns their number."""

    def prune_tokens(self, before: datetime, *, is_dry_run: bool) -> int:
        """Delete tokens that were invalid `before`; returns their number."""

    def prune_audit(self, before: datetime, *, limit: int | None) -> int:
        """Delete up to `limit` of the oldest audit entries; None only counts them."""
