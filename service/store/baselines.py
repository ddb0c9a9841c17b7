"""Baselines and comparisons in the database."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    union,
    union_all,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from configs.protocol.comparison import Comparison
from service.domain.ids import split_ids
from service.domain.repositories import baselines
from service.domain.repositories.baselines import (
    MAX_PAIRS,
    ReusableBaseline,
    RunAndBaseline,
    Score,
    StoredComparison,
)
from service.domain.runs import Run
from service.domain.states import FINISHED_STATES, RunState
from service.store.runs import read_runs
from service.store.tables import RUN_COLUMNS, SELECT_RUNS, ComparisonRow, RunRow, get_table
from service.store.writers.baseline_memo import BaselineMemo

_LOST_STATES = (RunState.FAILED, RunState.CANCELLED)
_MAX_MARKED = 500
"""Rows of one statement: the number of its parameters is limited."""

_PairCondition = Callable[[type[RunRow], type[RunRow]], ColumnElement[bool]]
"""A condition on a run and its baseline."""

_MAX_EQUAL_PAIRS = 8 * MAX_PAIRS
"""Equal pairs share their digest, so there may be several for each pair that is compared."""


class SqlBaselines:
    """Implements `Baselines`."""

    def __init__(self, session: Session, memo: BaselineMemo) -> None:
        self._session = session
        self._memo = memo

    def find_reusable(self, spec_digest: str, *, project: str) -> ReusableBaseline | None:
        baseline, is_known = self._memo.find(spec_digest, project=project)
        if is_known:
            return baseline
        connection = self._session.connection()
        values = {"spec_digest": spec_digest, "project": project}
        # Most launches have one that succeeded, and each further state takes as long to plan.
        oldest = connection.execute(_OLDEST_SUCCEEDED, values).one_or_none() or min(
            connection.execute(_OLDEST_UNFINISHED, values).all(),
            key=lambda row: row.sequence,
            default=None,
        )
        if oldest is not None:
            baseline = ReusableBaseline(oldest.id, RunState(oldest.state))
        self._memo.remember(spec_digest, project=project, baseline=baseline)
        return baseline

    def find_seeds(self, seedless_digest: str, *, project: str) -> list[Run]:
        oldest_of_seed = (
            select(func.min(RunRow.sequence))
            .where(
                RunRow.sequence.in_(_select_newest(seedless_digest, project=project)),
                (RunRow.state + "").not_in(_LOST_STATES),
                or_(RunRow.state + "" == RunState.SUCCEEDED, RunRow.desired != "cancelled"),
            )
            .group_by(RunRow.spec_digest)
        )
        return self._runs(RunRow.sequence.in_(oldest_of_seed))

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
                RunRow.sequence.in_(_select_newest(seedless_digest, project=project)), is_eligible
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
            select(RunRow.id, baseline.id)
            .join(baseline, baseline.id == RunRow.baseline_run_id)
            .where(RunRow.id.in_(newest))
            .order_by(RunRow.sequence)
        )
        pairs = self._session.execute(query).all()
        runs = {run.id: run for run in self._runs(RunRow.id.in_({*chain(*pairs)}))}
        return [(runs[run_id], runs[baseline_id]) for run_id, baseline_id in pairs]

    def find_equal_pairs(self, spec_digests: Collection[str], *, project: str) -> list[str]:
        baseline = aliased(RunRow)
        query = (
            select(RunRow.id)
            .join(baseline, baseline.id == RunRow.baseline_run_id)
            .where(
                RunRow.spec_digest.in_(spec_digests),
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
        query = (
            select(RunRow.spec_digest, RunRow.id, RunRow.seedless_digest, RunRow.best_map)
            .where(
                RunRow.seed_group_key == seed_group_key,
                RunRow.project == project,
                _is_equal_to_constant(RunRow.state, RunState.SUCCEEDED),
                RunRow.best_map.is_not(None),
            )
            .order_by(RunRow.sequence.desc())
            .limit(baselines.MAX_COMPARABLE)
        )
        oldest_of_equal: dict[str | None, Score] = {}
        for spec_digest, run_id, digest, score in reversed(self._session.execute(query).all()):
            if score is not None:
                oldest_of_equal.setdefault(spec_digest, Score(run_id, digest or "", score))
        return list(oldest_of_equal.values())

    def find_best_maps(self, run_ids: Collection[str]) -> dict[str, float]:
        query = select(RunRow.id, RunRow.best_map).where(
            RunRow.id.in_(run_ids), RunRow.state == RunState.SUCCEEDED
        )
        rows = self._session.execute(query)
        return {run_id: score for run_id, score in rows if score is not None}

    def find_teacher_measurement(self, teacher_key: str, *, project: str) -> Run | None:
        query = (
            SELECT_RUNS.where(
                RunRow.teacher_key == teacher_key,
                RunRow.project == project,
                RunRow.teacher_map.is_not(None),
            )
            .order_by(RunRow.sequence.desc())
            .limit(1)
        )
        return next(iter(read_runs(self._session, query)), None)

    def find_external_baselines(self, sweep_id: str) -> set[str]:
        distilled = aliased(RunRow)
        has_external_run = exists().where(
            distilled.baseline_run_id == RunRow.id,
            or_(distilled.sweep_id.is_(None), distilled.sweep_id + "" != sweep_id),
            (distilled.state + "").not_in(_LOST_STATES),
        )
        query = select(RunRow.id).where(RunRow.sweep_id == sweep_id, has_external_run)
        return set(self._session.scalars(query))

    def find_changed(self) -> dict[str, int]:
        query = select(RunRow.id, RunRow.comparison_revision).where(
            RunRow.comparison_revision.is_not(None)
        )
        rows = self._session.execute(query)
        return {run_id: revision for run_id, revision in rows if revision is not None}

    def find_with_lost_baseline(self) -> list[Run]:
        return self._read_affected(_has_lost_baseline)

    def find_with_restored_baseline(self) -> list[Run]:
        return self._read_affected(_has_restored_baseline)

    def find_uncompared(self) -> list[Run]:
        return self._read_affected(_is_uncompared)

    def mark_compared(self, revisions: Mapping[str, int]) -> None:
        unfinished = {
            run_id
            for condition in (_has_lost_baseline, _has_restored_baseline, _is_uncompared)
            for ids in self._session.execute(
                _select_affected(condition, RunRow.id, RunRow.baseline_run_id)
            )
            for run_id in ids
        }
        for run_ids in split_ids(sorted(revisions.keys() - unfinished), size=_MAX_MARKED):
            self._mark([(run_id, revisions[run_id]) for run_id in run_ids])

    def _mark(self, revisions: Sequence[tuple[str, int]]) -> None:
        """Rows that another transaction has locked stay for the next turn: waiting for several
        rows while others do so in another order would be a deadlock."""
        free_ids = (
            select(RunRow.id)
            .where(
                RunRow.id.in_([run_id for run_id, _ in revisions]),
                tuple_(RunRow.id, RunRow.comparison_revision).in_(revisions),
            )
            .with_for_update(skip_locked=True)
        )
        statement = update(RunRow).where(RunRow.id.in_(free_ids)).values(comparison_revision=None)
        self._session.execute(statement, execution_options={"synchronize_session": False})

    def find_unread_reports(self) -> list[Run]:
        return self._runs(
            _is_equal_to_constant(RunRow.task, "report"),
            _is_equal_to_constant(RunRow.state, RunState.SUCCEEDED),
            RunRow.is_report_read.is_(False),
        )

    def _read_affected(self, condition: _PairCondition) -> list[Run]:
        return self._read(_select_affected(condition, *RUN_COLUMNS))

    def _runs(self, *conditions: ColumnElement[bool]) -> list[Run]:
        return self._read(SELECT_RUNS.where(*conditions))

    def _read(self, query: Select[Any]) -> list[Run]:
        return read_runs(self._session, query.order_by(RunRow.sequence))


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

    def of_runs(self, run_ids: Collection[str]) -> dict[str, Comparison]:
        query = select(ComparisonRow).where(ComparisonRow.run_id.in_(run_ids))
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


def _select_oldest_equal(state: RunState) -> Select[Any]:
    """The oldest viable run of a digest in one state, which an index finds."""
    run = get_table(RunRow).c
    is_viable: ColumnElement[bool] = true()
    if state is not RunState.SUCCEEDED:
        is_viable = and_(run.desired != "cancelled", run.trial.is_(None))
    oldest = (
        select(run.id, run.state, run.sequence)
        .where(
            run.spec_digest == bindparam("spec_digest"),
            run.project == bindparam("project"),
            run.state == state,
            is_viable,
        )
        .order_by(run.sequence)
        .limit(1)
    )
    return select(oldest.subquery())


_OLDEST_SUCCEEDED = _select_oldest_equal(RunState.SUCCEEDED)
_OLDEST_UNFINISHED = union_all(
    *(_select_oldest_equal(state) for state in RunState if state not in FINISHED_STATES)
)
"""Built once, because launches execute both."""


def _select_newest(seedless_digest: str, *, project: str) -> ScalarSelect[int]:
    """The sequence numbers of the newest runs that differ in their seed alone."""
    run = aliased(RunRow)
    query = select(run.sequence).where(
        run.seedless_digest == seedless_digest, run.project == project
    )
    newest = query.order_by(run.sequence.desc()).limit(baselines.MAX_COMPARABLE)
    return newest.scalar_subquery()


def _is_viable(run: type[RunRow]) -> ColumnElement[bool]:
    """As `is_viable` of the domain, except that an unfinished trial does not count."""
    is_unfinished = and_(
        run.state.not_in(_LOST_STATES), run.desired != "cancelled", run.trial.is_(None)
    )
    return or_(run.state == RunState.SUCCEEDED, is_unfinished)


@cache
def _select_affected(condition: _PairCondition, *columns: Any) -> Select[Any]:
    """Runs with a condition on them and their baselines, among those that changes may concern:
    runs that have changed, and runs whose baseline has.

    Built once: the aliases of a table with so many columns take ten times as long as the query.
    """
    baseline = aliased(RunRow)
    changed, distilled = aliased(RunRow), aliased(RunRow)
    changed_ids = select(changed.id).where(changed.comparison_revision.is_not(None))
    # With a join, SQLite would walk through all distilled runs.
    ids = union(changed_ids, select(distilled.id).where(distilled.baseline_run_id.in_(changed_ids)))
    return (
        select(*columns)
        .join(baseline, baseline.id == RunRow.baseline_run_id)
        .where(RunRow.id.in_(ids), condition(RunRow, baseline))
    )


def _has_lost_baseline(run: type[RunRow], baseline: type[RunRow]) -> ColumnElement[bool]:
    return and_(
        (baseline.state + "").in_(_LOST_STATES),
        run.is_baseline_lost.is_(False),
        (run.state + "").not_in(_LOST_STATES),
    )


def _has_restored_baseline(run: type[RunRow], baseline: type[RunRow]) -> ColumnElement[bool]:
    return and_((baseline.state + "").not_in(_LOST_STATES), run.is_baseline_lost.is_(True))


def _is_uncompared(run: type[RunRow], baseline: type[RunRow]) -> ColumnElement[bool]:
    return and_(
        baseline.state + "" == RunState.SUCCEEDED,
        run.state + "" == RunState.SUCCEEDED,
        run.report_run_id.is_(None),
        (run.sweep_id + "").is_(None),
    )


def _is_equal_to_constant(column: InstrumentedAttribute[str], value: str) -> ColumnElement[bool]:
    """As a condition of a partial index, which SQLite does not compare with parameters."""
    return column == literal_column(f"'{value}'")


def _comparison_from_row(row: ComparisonRow) -> StoredComparison:
    return StoredComparison(row.run_id, Comparison.model_validate_json(row.document), row.at)
