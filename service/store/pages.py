"""The queries for a page of the list of runs, and of the list of sweeps.

A query walks one index in the order of the list, up to the end of the page, so that its cost does
not grow with the history. Which index is decided here: a database assumes that the matches of a
filter are spread evenly, and SQLite has no statistics, so both may walk through all rows or sort
all matches. A filter whose index must not be used is written as an expression.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, false, func, select, tuple_, union_all
from sqlalchemy.orm import InstrumentedAttribute

from service.domain.repositories.runs import RunFilter
from service.domain.repositories.sweeps import SweepFilter
from service.domain.states import RunState
from service.store.engine import replace_nul
from service.store.tables import SELECT_RUNS, RunRow, RunTagRow, SweepRow

_Column = InstrumentedAttribute[Any]
_Condition = ColumnElement[bool]
_Table = type[RunRow] | type[RunTagRow]

_BY_SELECTIVITY: Final[tuple[_Column, ...]] = (
    RunRow.preset,
    RunRow.dataset,
    RunRow.state,
    RunRow.task,
    RunRow.trial,
    RunRow.project,
)
"""The filters that have an index in each order of the list, the presumably most selective first.

All but the trial also have indexes together with the project."""


def select_run_page(run_filter: RunFilter, *, last: RunRow | None) -> Select[Any]:
    """The rows of a page in the order of the list; `last` is the last row of the page before."""
    selected = _selected_values(run_filter)
    if run_filter.sweep is not None or has_rare_prefix(run_filter.id_prefix, kind="r"):
        conditions = [*_iter_conditions(run_filter), *_follow(RunRow, run_filter, last)]
        if run_filter.sweep is not None and RunRow.trial in selected:
            del selected[RunRow.trial]
            conditions.append(RunRow.trial == run_filter.trial)
        return _sort_matches(run_filter, [*conditions, *_without_index(selected)])
    if run_filter.tag is not None:
        return _walk_tags(run_filter, selected, last=last)
    driver = _choose_driver(selected)
    conditions = [*_iter_conditions(run_filter), *_follow(RunRow, run_filter, last)]
    if driver is None:
        return _walk(RunRow, SELECT_RUNS, run_filter, conditions)
    if RunRow.project in selected and driver not in (RunRow.project, RunRow.trial):
        conditions.append(RunRow.project == run_filter.project)
        del selected[RunRow.project]
    values = selected.pop(driver)
    conditions += _without_index(selected)
    walks = [
        _walk(RunRow, select(RunRow.id), run_filter, [driver == value, *conditions]).subquery()
        for value in values
    ]
    ids = union_all(*(select(walk.c.id) for walk in walks))
    return _walk(RunRow, SELECT_RUNS, run_filter, [RunRow.id.in_(ids)])


def select_sweep_page(sweep_filter: SweepFilter, *, last: SweepRow | None) -> Select[Any]:
    """The rows of a page, newest first; `last` is the last row of the page before."""
    query = select(SweepRow).limit(sweep_filter.limit)
    if last is not None:
        query = query.where(SweepRow.sequence < last.sequence)
    if sweep_filter.state is not None:
        query = query.where(SweepRow.state == sweep_filter.state)
    if sweep_filter.project is not None:
        query = query.where(SweepRow.project == sweep_filter.project)
    if sweep_filter.id_prefix is not None:
        query = query.where(id_starts_with(SweepRow.id, sweep_filter.id_prefix, kind="s"))
    if has_rare_prefix(sweep_filter.id_prefix, kind="s"):
        # Without "+ 0" the database may walk the index of the sequence to find the few matches.
        return query.order_by((SweepRow.sequence + 0).desc())
    return query.order_by(SweepRow.sequence.desc())


def _walk_tags(
    run_filter: RunFilter, selected: dict[_Column, Collection[Any]], *, last: RunRow | None
) -> Select[Any]:
    """The rows with a tag: an index of the tags is walked, and each of its runs is looked up."""
    key, value = run_filter.tag or ("", "")
    conditions = [RunTagRow.key == replace_nul(key), RunTagRow.value == value]
    if selected.pop(RunRow.project, None):
        conditions.append(RunTagRow.project == run_filter.project)
    query = select(RunTagRow.run_id)
    if selected or run_filter.id_prefix is not None:
        query = query.join(RunRow, RunRow.id == RunTagRow.run_id)
        conditions += _without_index(selected)
    if run_filter.id_prefix is not None:
        conditions.append(id_starts_with(RunRow.id, run_filter.id_prefix, kind="r"))
    conditions += _follow(RunTagRow, run_filter, last)
    walk = _walk(RunTagRow, query, run_filter, conditions).subquery()
    return _walk(RunRow, SELECT_RUNS, run_filter, [RunRow.id.in_(select(walk.c.run_id))])


def _selected_values(run_filter: RunFilter) -> dict[_Column, Collection[Any]]:
    """The values of each column of `_BY_SELECTIVITY` that the filter lets pass."""
    optional = {
        RunRow.preset: run_filter.preset,
        RunRow.dataset: run_filter.dataset,
        RunRow.project: run_filter.project,
    }
    selected: dict[_Column, Collection[Any]] = {
        column: (value,) for column, value in optional.items() if value is not None
    }
    if run_filter.states:
        selected[RunRow.state] = dict.fromkeys(run_filter.states)
    if run_filter.tasks:
        selected[RunRow.task] = dict.fromkeys(run_filter.tasks)
    if run_filter.trial is not None:
        selected[RunRow.trial] = (run_filter.trial,)
    return selected


def _choose_driver(selected: dict[_Column, Collection[Any]]) -> _Column | None:
    """The column whose index is walked; None without any filter on one."""
    states = selected.get(RunRow.state, ())
    if states and RunState.SUCCEEDED not in states:
        return RunRow.state  # most runs succeed, so the other states have few
    return next((column for column in _BY_SELECTIVITY if column in selected), None)


def _without_index(selected: dict[_Column, Collection[Any]]) -> Iterator[_Condition]:
    for column, values in selected.items():
        yield (column + (0 if column is RunRow.trial else "")).in_(list(values))


def _iter_conditions(run_filter: RunFilter) -> Iterator[_Condition]:
    if run_filter.id_prefix is not None:
        yield id_starts_with(RunRow.id, run_filter.id_prefix, kind="r")
    if run_filter.sweep is not None:
        yield RunRow.sweep_id == run_filter.sweep
    if run_filter.tag is not None:
        yield _has_tag(*run_filter.tag)


def _has_tag(key: str, value: str) -> _Condition:
    tag = select(RunTagRow.run_id).where(
        RunTagRow.run_id == RunRow.id, RunTagRow.key == replace_nul(key)
    )
    return tag.where((RunTagRow.value + "") == value).exists()


def has_rare_prefix(prefix: str | None, *, kind: str) -> bool:
    """Whether few ids, or none, start with a prefix; `kind` is the first letter of the ids.

    One more character is that of very many ids: 28,000 of a million runs.
    """
    return prefix is not None and re.fullmatch(f"({kind}[0-9a-z]?)?", prefix) is None


def id_starts_with(column: _Column, prefix: str, *, kind: str) -> _Condition:
    """Whether an id starts with `prefix`; a rare prefix uses the index of the primary key.

    `LIKE` alone cannot use that index on PostgreSQL, so there is a range; ids are lower-case
    letters and digits, so every collation puts "z" last.
    """
    text = replace_nul(prefix)
    if not has_rare_prefix(prefix, kind=kind):
        return func.substr(column, 1, len(text)) == text
    return and_(column >= text, column <= text + "z" * 16, column.startswith(text, autoescape=True))


def _follow(table: _Table, run_filter: RunFilter, last: RunRow | None) -> Iterator[_Condition]:
    if last is None:
        return
    if run_filter.order == "newest":
        yield table.sequence < last.sequence
    elif last.best_map is None:
        yield false()  # runs without mAP are not in this list
    else:
        yield tuple_(table.best_map, table.sequence) < (last.best_map, last.sequence)


def _walk(
    table: _Table, query: Select[Any], run_filter: RunFilter, conditions: Collection[_Condition]
) -> Select[Any]:
    if run_filter.order == "best_map":
        query = query.where(table.best_map.is_not(None)).order_by(table.best_map.desc())
    return query.where(*conditions).order_by(table.sequence.desc()).limit(run_filter.limit)


def _sort_matches(run_filter: RunFilter, conditions: list[_Condition]) -> Select[Any]:
    """For filters with few matches. Without "+ 0" the database may walk the order's index."""
    query = SELECT_RUNS.where(*conditions)
    if run_filter.order == "best_map":
        best_map = RunRow.best_map + 0
        query = query.where(best_map.is_not(None)).order_by(best_map.desc())
    return query.order_by((RunRow.sequence + 0).desc()).limit(run_filter.limit)
