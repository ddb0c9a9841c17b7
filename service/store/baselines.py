"""Baselines and comparisons in the database."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from configs.metric_keys import Metric
from configs.protocol.report import Comparison
from service.domain.repositories.baselines import MAX_PAIRS, RunAndBaseline, Score, StoredComparison
from service.domain.runs import Run
from service.domain.states import RunState
from service.store.runs import run_from_row
from service.store.tables import ComparisonRow, RunRow

_LOST_STATES = (RunState.FAILED, RunState.CANCELLED)
_MAX_EQUAL_PAIRS = 8 * MAX_PAIRS
"""Equal pairs share their digest, so there may be several for each pair that is compared."""


class SqlBaselines:
    """Implements `Baselines`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_by_spec_digest(self, spec_digest: str, *, project: str) -> list[Run]:
        return self._runs(RunRow.spec_digest == spec_digest, RunRow.project == project)

    def find_by_seedless_digest(self, seedless_digest: str, *, project: str) -> list[Run]:
        return self._runs(RunRow.seedless_digest == seedless_digest, RunRow.project == project)

    def find_pairs(
        self, seedless_digest: str, *, project: str, are_over: bool
    ) -> list[RunAndBaseline]:
        baseline = aliased(RunRow)
        is_done = and_(RunRow.state == RunState.SUCCEEDED, baseline.state == RunState.SUCCEEDED)
        is_eligible = is_done if are_over else and_(_is_viable(RunRow), _is_viable(baseline))
        rank = func.row_number().over(
            partition_by=RunRow.spec_digest,
            order_by=(case((is_done, 0), else_=1), RunRow.sequence),
        )
        ranked = (
            select(RunRow.id, RunRow.sequence, rank.label("rank"))
            .join(baseline, baseline.id == RunRow.baseline_run_id)
            .where(
                RunRow.seedless_digest == seedless_digest, RunRow.project == project, is_eligible
            )
            .subquery()
        )
        newest = (
            select(ranked.c.id)
            .where(ranked.c.rank == 1)
            .order_by(ranked.c.sequence.desc())
            .limit(MAX_PAIRS)
        )
        query = (
            select(RunRow, baseline)
            .join(baseline, baseline.id == RunRow.baseline_run_id)
            .where(RunRow.id.in_(newest))
            .order_by(RunRow.sequence)
        )
        return [
            (run_from_row(run), run_from_row(baseline_row))
            for run, baseline_row in self._session.execute(query)
        ]

    def find_equal_pairs(self, spec_digests: Iterable[str], *, project: str) -> list[str]:
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
            .limit(_MAX_EQUAL_PAIRS)
        )
        return list(self._session.scalars(query))

    def find_distilled_run(self, baseline_id: str) -> str | None:
        query = select(RunRow.id).where(RunRow.baseline_run_id == baseline_id)
        return self._session.scalar(query.order_by(RunRow.sequence.desc()).limit(1))

    def find_scores(self, seed_group_key: str, *, project: str) -> list[Score]:
        oldest_of_equal = (
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
            .where(RunRow.sequence.in_(oldest_of_equal))
            .order_by(RunRow.sequence)
        )
        return [
            Score(run_id, digest or "", score)
            for run_id, digest, score in self._session.execute(query)
            if score is not None
        ]

    def find_best_maps(self, run_ids: Iterable[str]) -> dict[str, float]:
        query = select(RunRow.id, RunRow.best_map).where(
            RunRow.id.in_(list(run_ids)), RunRow.state == RunState.SUCCEEDED
        )
        rows = self._session.execute(query)
        return {run_id: score for run_id, score in rows if score is not None}

    def find_with_teacher_map(self, *, project: str, limit: int) -> list[Run]:
        measured = RunRow.latest[str(Metric.TEACHER_MAP)].as_float()
        query = (
            select(RunRow)
            .where(RunRow.project == project, RunRow.task == "train", measured.is_not(None))
            .order_by(RunRow.sequence.desc())
            .limit(limit)
        )
        return [run_from_row(row) for row in self._session.scalars(query)]

    def find_external_baselines(self, sweep_id: str) -> set[str]:
        baseline = aliased(RunRow)
        query = (
            select(baseline.id)
            .join(RunRow, RunRow.baseline_run_id == baseline.id)
            .where(
                baseline.sweep_id == sweep_id,
                or_(RunRow.sweep_id.is_(None), RunRow.sweep_id != sweep_id),
                RunRow.state.not_in(_LOST_STATES),
            )
        )
        return set(self._session.scalars(query))

    def find_with_lost_baseline(self) -> list[Run]:
        baseline = aliased(RunRow)
        return self._read(
            _join_baseline(baseline).where(
                baseline.state.in_(_LOST_STATES),
                RunRow.is_baseline_lost.is_(False),
                RunRow.state.not_in(_LOST_STATES),
            )
        )

    def find_with_restored_baseline(self) -> list[Run]:
        baseline = aliased(RunRow)
        return self._read(
            _join_baseline(baseline).where(
                baseline.state.not_in(_LOST_STATES), RunRow.is_baseline_lost.is_(True)
            )
        )

    def find_uncompared(self) -> list[Run]:
        baseline = aliased(RunRow)
        return self._read(
            _join_baseline(baseline).where(
                baseline.state == RunState.SUCCEEDED,
                RunRow.state == RunState.SUCCEEDED,
                RunRow.report_run_id.is_(None),
                RunRow.sweep_id.is_(None),
            )
        )

    def find_unread_reports(self) -> list[Run]:
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
    """Implements `Comparisons`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(self, comparison: StoredComparison) -> None:
        self._session.merge(
            ComparisonRow(
                run_id=comparison.run_id,
                document=comparison.comparison.model_dump_json(),
                at=comparison.at,
                mlflow_synced=False,
            )
        )
        self._session.flush()

    def of_runs(self, run_ids: Iterable[str]) -> dict[str, Comparison]:
        query = select(ComparisonRow).where(ComparisonRow.run_id.in_(list(run_ids)))
        return {
            row.run_id: _comparison_from_row(row).comparison for row in self._session.scalars(query)
        }

    def not_synced(self) -> list[StoredComparison]:
        query = select(ComparisonRow).where(ComparisonRow.mlflow_synced.is_(False))
        rows = self._session.scalars(query.order_by(ComparisonRow.at, ComparisonRow.run_id))
        return [_comparison_from_row(row) for row in rows]

    def record_synced(self, comparison: StoredComparison) -> None:
        statement = update(ComparisonRow).where(
            ComparisonRow.run_id == comparison.run_id, ComparisonRow.at == comparison.at
        )
        self._session.execute(statement.values(mlflow_synced=True))


def _is_viable(run: type[RunRow]) -> ColumnElement[bool]:
    """As `is_viable` of the domain, except that an unfinished trial does not count."""
    is_unfinished = and_(
        run.state.not_in(_LOST_STATES), run.desired != "cancelled", run.trial.is_(None)
    )
    return or_(run.state == RunState.SUCCEEDED, is_unfinished)


def _join_baseline(baseline: type[RunRow]) -> Select[RunRow]:
    return select(RunRow).join(baseline, baseline.id == RunRow.baseline_run_id)


def _comparison_from_row(row: ComparisonRow) -> StoredComparison:
    return StoredComparison(row.run_id, Comparison.model_validate_json(row.document), row.at)
