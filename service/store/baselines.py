"""Runs that are equal but for something, and what became of those that have a twin."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from configs.protocol.names import Metric
from configs.protocol.report import Comparison
from service.domain.repositories.baselines import MAX_PAIRS, RunAndBaseline, Score, StoredComparison
from service.domain.runs import Run
from service.domain.states import RunState
from service.store.runs import run_from_row
from service.store.tables import ComparisonRow, RunRow

_LOST = (RunState.FAILED, RunState.CANCELLED)
_MOST_EQUAL = 8 * MAX_PAIRS


class SqlBaselines:
    """Implements `comparisons.Twins`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_by_spec_digest(self, spec_digest: str, *, project: str) -> list[Run]:
        """Those that compute the same numbers, oldest first."""
        return self._runs(RunRow.spec_digest == spec_digest, RunRow.project == project)

    def find_by_seedless_digest(self, seedless_digest: str, *, project: str) -> list[Run]:
        """Those that differ in their seed alone, oldest first."""
        return self._runs(RunRow.seedless_digest == seedless_digest, RunRow.project == project)

    def find_pairs(
        self, seedless_digest: str, *, project: str, are_over: bool
    ) -> list[RunAndBaseline]:
        """Distilled runs of a family with their baselines, one pair for each seed, oldest first."""
        baseline = aliased(RunRow)
        are_done = and_(RunRow.state == RunState.SUCCEEDED, baseline.state == RunState.SUCCEEDED)
        counts = are_done if are_over else and_(_is_sound(RunRow), _is_sound(baseline))
        place = func.row_number().over(
            partition_by=RunRow.spec_digest,
            order_by=(case((are_done, 0), else_=1), RunRow.sequence),
        )
        ranked = (
            select(RunRow.id, RunRow.sequence, place.label("place"))
            .join(baseline, baseline.id == RunRow.baseline_run_id)
            .where(RunRow.seedless_digest == seedless_digest, RunRow.project == project, counts)
            .subquery()
        )
        newest = (
            select(ranked.c.id)
            .where(ranked.c.place == 1)
            .order_by(ranked.c.order.desc())
            .limit(MAX_PAIRS)
        )
        query = (
            select(RunRow, baseline)
            .join(baseline, baseline.id == RunRow.baseline_run_id)
            .where(RunRow.id.in_(newest))
            .order_by(RunRow.sequence)
        )
        return [
            (run_from_row(run), run_from_row(alone)) for run, alone in self._session.execute(query)
        ]

    def find_equal_pairs(self, spec_digests: Iterable[str], *, project: str) -> list[str]:
        """Ids of runs outside of sweeps that compute the same numbers as one of these, and have
        succeeded as their baselines have: the newest ones, a bounded number."""
        baseline = aliased(RunRow)
        query = (
            select(RunRow.id)
            .join(baseline, baseline.id == RunRow.baseline_run_id)
            .where(
                RunRow.spec_digest.in_(list(spec_digests)),
                RunRow.project == project,
                RunRow.sweep_id.is_(None),
                RunRow.state == RunState.SUCCEEDED,
                baseline.state == RunState.SUCCEEDED,
            )
            .order_by(RunRow.sequence.desc())
            .limit(_MOST_EQUAL)
        )
        return list(self._session.scalars(query))

    def find_distilled_run(self, baseline_id: str) -> str | None:
        """The newest run that has this one as its baseline; none: there is none."""
        query = select(RunRow.id).where(RunRow.baseline_run_id == baseline_id)
        return self._session.scalar(query.order_by(RunRow.sequence.desc()).limit(1))

    def find_scores(self, seed_group_key: str, *, project: str) -> list[Score]:
        """Of those that succeeded and scatter alike, oldest first; equal runs count once.

        The same seed twice says nothing about seeds: it would make the noise look smaller.
        """
        first = (
            select(func.min(RunRow.sequence))
            .where(
                RunRow.seed_group_key == seed_group_key,
                RunRow.project == project,
                RunRow.state == RunState.SUCCEEDED,
                RunRow.best_map.is_not(None),
            )
            .group_by(RunRow.spec_digest)
        )
        query = (
            select(RunRow.id, RunRow.seedless_digest, RunRow.best_map)
            .where(RunRow.sequence.in_(first))
            .order_by(RunRow.sequence)
        )
        return [
            Score(run_id, family or "", score)
            for run_id, family, score in self._session.execute(query)
            if score is not None
        ]

    def find_with_teacher_map(self, *, project: str, limit: int) -> list[Run]:
        """Those that know their teacher's mAP, newest first."""
        measured = RunRow.latest[str(Metric.TEACHER_MAP)].as_float()
        query = (
            select(RunRow)
            .where(RunRow.project == project, RunRow.task == "train", measured.is_not(None))
            .order_by(RunRow.sequence.desc())
            .limit(limit)
        )
        return [run_from_row(row) for row in self._session.scalars(query)]

    def find_external_baselines(self, sweep_id: str) -> set[str]:
        """Runs of a sweep that are the baselines of runs outside of it."""
        baseline = aliased(RunRow)
        query = (
            select(baseline.id)
            .join(RunRow, RunRow.baseline_run_id == baseline.id)
            .where(
                baseline.sweep_id == sweep_id,
                or_(RunRow.sweep_id.is_(None), RunRow.sweep_id != sweep_id),
                RunRow.state.not_in(_LOST),
            )
        )
        return set(self._session.scalars(query))

    def find_with_lost_baseline(self) -> list[Run]:
        """Those whose baseline has failed or is cancelled, and nobody was told."""
        baseline = aliased(RunRow)
        return self._read(
            _with(baseline).where(
                baseline.state.in_(_LOST),
                RunRow.is_baseline_lost.is_(False),
                RunRow.state.not_in(_LOST),
            )
        )

    def find_with_restored_baseline(self) -> list[Run]:
        """Those whose baseline was lost, and goes on or has succeeded."""
        baseline = aliased(RunRow)
        return self._read(
            _with(baseline).where(baseline.state.not_in(_LOST), RunRow.is_baseline_lost.is_(True))
        )

    def find_uncompared(self) -> list[Run]:
        """Those outside of sweeps that succeeded, as their baselines did, and have no report."""
        baseline = aliased(RunRow)
        return self._read(
            _with(baseline).where(
                baseline.state == RunState.SUCCEEDED,
                RunRow.state == RunState.SUCCEEDED,
                RunRow.report_run_id.is_(None),
                RunRow.sweep_id.is_(None),
            )
        )

    def find_unread_reports(self) -> list[Run]:
        """Reports that succeeded, and nobody has taken the comparisons from them."""
        return self._runs(
            RunRow.task == "report",
            RunRow.state == RunState.SUCCEEDED,
            RunRow.is_report_read.is_(False),
        )

    def _runs(self, *conditions: ColumnElement[bool]) -> list[Run]:
        return self._read(select(RunRow).where(*conditions))

    def _read(self, query: Select[RunRow]) -> list[Run]:
        return [run_from_row(row) for row in self._session.scalars(query.order_by(RunRow.sequence))]


class SqlComparisons:
    """Implements `comparisons.Comparisons`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(self, kept: StoredComparison) -> None:
        """Add or replace; the tracker is to be told."""
        self._session.merge(
            ComparisonRow(
                run_id=kept.run_id,
                document=kept.comparison.model_dump_json(),
                at=kept.at,
                mlflow_synced=False,
            )
        )
        self._session.flush()

    def of_runs(self, run_ids: Iterable[str]) -> dict[str, Comparison]:
        """By run; those without one are left out."""
        query = select(ComparisonRow).where(ComparisonRow.run_id.in_(list(run_ids)))
        return {row.run_id: _kept_from_row(row).comparison for row in self._session.scalars(query)}

    def not_synced(self) -> list[StoredComparison]:
        """Those that the tracker was not told."""
        query = select(ComparisonRow).where(ComparisonRow.mlflow_synced.is_(False))
        rows = self._session.scalars(query.order_by(ComparisonRow.at, ComparisonRow.run_id))
        return [_kept_from_row(row) for row in rows]

    def record_synced(self, kept: StoredComparison) -> None:
        """The tracker has it; a newer one of the same run stays to be told."""
        this = update(ComparisonRow).where(
            ComparisonRow.run_id == kept.run_id, ComparisonRow.at == kept.at
        )
        self._session.execute(this.values(mlflow_synced=True))


def _is_sound(run: type[RunRow]) -> ColumnElement[bool]:
    """As `twins.is_sound`; a sweep's trial counts only when it has succeeded: it may be stopped."""
    is_under_way = and_(run.state.not_in(_LOST), run.desired != "cancelled", run.trial.is_(None))
    return or_(run.state == RunState.SUCCEEDED, is_under_way)


def _with(baseline: type[RunRow]) -> Select[RunRow]:
    return select(RunRow).join(baseline, baseline.id == RunRow.baseline_run_id)


def _kept_from_row(row: ComparisonRow) -> StoredComparison:
    return StoredComparison(row.run_id, Comparison.model_validate_json(row.document), row.at)
