"""The query for a page of the list of runs.

It walks one index in the order of the list, up to the end of the page, so that its cost does not
grow with the number of runs. Which index is decided here: a database assumes that the matches of a
filter are spread evenly, and SQLite has no statistics, so both may walk through all runs or sort
all matches. A filter whose index must not be used is written as an expression.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, false, select, tuple_, union_all
from sqlalchemy.orm import InstrumentedAttribute

from service.domain.repositories.runs import RunFilter
from service.domain.states import RunState
from service.store.engine import replace_nul
from service.store.paging import id_starts_with
from service.store.tables import RunRow

_Column = InstrumentedAttribute[Any]
_Condition = ColumnElement[bool]

_BY_SELECTIVITY: Final[tuple[_Column, ...]] = (
    RunRow.preset,
    RunRow.dataset,
    RunRow.project,
    RunRow.state,
    RunRow.task,
)
"""The filters that have an index in each order of the list, the presumably most selective first."""


def select_run_page(run_filter: RunFilter, *, last: RunRow | None) -> Select[Any]:
    """The rows of a page in the order of the list; `last` is the last row of the page before."""
    selected = _selected_values(run_filter)
    conditions = [*_iter_conditions(run_filter), *_follow(run_filter, last)]
    if run_filter.id_prefix is not None or run_filter.sweep is not None:
        return _sort_matches(run_filter, [*conditions, *_without_index(selected)])
    driver = _choose_driver(selected)
    if driver is None:
        return _walk(select(RunRow), run_filter, conditions)
    residual = {column: values for column, values in selected.items() if column is not driver}
    conditions += _without_index(residual)
    walks = [
        _walk(select(RunRow.id), run_filter, [driver == value, *conditions]).subquery()
        for value in selected[driver]
    ]
    ids = union_all(*(select(walk.c.id) for walk in walks))
    return _walk(select(RunRow), run_filter, [RunRow.id.in_(ids)])


def _selected_values(run_filter: RunFilter) -> dict[_Column, Collection[str]]:
    """The values of each column of `_BY_SELECTIVITY` that the filter lets pass."""
    optional = {
        RunRow.preset: run_filter.preset,
        RunRow.dataset: run_filter.dataset,
        RunRow.project: run_filter.project,
    }
    selected: dict[_Column, Collection[str]] = {
        column: (value,) for column, value in optional.items() if value is not None
    }
    if run_filter.states:
        selected[RunRow.state] = dict.fromkeys(run_filter.states)
    if run_filter.tasks:
        selected[RunRow.task] = dict.fromkeys(run_filter.tasks)
    return selected


def _choose_driver(selected: dict[_Column, Collection[str]]) -> _Column | None:
    """The column whose index is walked; None without any filter on one."""
    states = selected.get(RunRow.state, ())
    if states and RunState.SUCCEEDED not in states:
        return RunRow.state  # most runs succeed, so the other states have few
    return next((column for column in _BY_SELECTIVITY if column in selected), None)


def _without_index(selected: dict[_Column, Collection[str]]) -> Iterator[_Condition]:
    for column, values in selected.items():
        yield (column + "").in_(list(values))


def _iter_conditions(run_filter: RunFilter) -> Iterator[_Condition]:
    if run_filter.id_prefix is not None:
        yield id_starts_with(RunRow.id, run_filter.id_prefix)
    if run_filter.sweep is not None:
        yield RunRow.sweep_id == run_filter.sweep
    if run_filter.trial is not None:
        yield RunRow.trial + 0 == run_filter.trial
    if run_filter.tag is not None:
        key, value = run_filter.tag
        yield RunRow.tags[replace_nul(key)].as_string() == value
    if run_filter.order == "best_map":
        yield RunRow.best_map.is_not(None)


def _follow(run_filter: RunFilter, last: RunRow | None) -> Iterator[_Condition]:
    if last is None:
        return
    if run_filter.order == "newest":
        yield RunRow.sequence < last.sequence
    elif last.best_map is None:
        yield false()  # runs without mAP are not in this list
    else:
        yield tuple_(RunRow.best_map, RunRow.sequence) < (last.best_map, last.sequence)


def _walk(query: Select[Any], run_filter: RunFilter, conditions: list[_Condition]) -> Select[Any]:
    if run_filter.order == "best_map":
        query = query.order_by(RunRow.best_map.desc())
    return query.where(*conditions).order_by(RunRow.sequence.desc()).limit(run_filter.limit)


def _sort_matches(run_filter: RunFilter, conditions: list[_Condition]) -> Select[Any]:
    """For filters with few matches. Without "+ 0" the database may walk the order's index."""
    query = select(RunRow).where(*conditions)
    if run_filter.order == "best_map":
        query = query.order_by((RunRow.best_map + 0).desc())
    return query.order_by((RunRow.sequence + 0).desc()).limit(run_filter.limit)
