"""Counts over all rows, with which totals are compared."""

from sqlalchemy import func, select

from service.domain.states import RunState
from service.store.database import SqlUnitOfWork
from service.store.tables import RunRow


def count_rows(uow: SqlUnitOfWork) -> dict[tuple[RunState, str], int]:
    """The counts that `MetricsQueries.count_runs` must have."""
    query = select(RunRow.state, RunRow.project, func.count())
    rows = uow.runs._session.execute(query.group_by(RunRow.state, RunRow.project))
    return {(RunState(state), project): count for state, project, count in rows}
