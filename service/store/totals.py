"""Totals over all runs and attempts, which every transaction that changes them keeps up to date.

Counting rows takes longer with each run that was ever launched. A transaction collects its changes
and applies them last, in a fixed order: it holds the rows of totals during its commit only, and
then waits for nothing else, so that they cannot be part of a deadlock.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Insert, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from service.domain.metrics.series import Usage, merge_packs, totals_by_project
from service.store.tables import AttemptRow, AttemptTotalRow, RunCountRow, RunRow, get_table
from service.store.writers.locks import AdvisoryLock, acquire

_KEY = "tandem_totals"

_Totals = type[RunCountRow] | type[AttemptTotalRow]


@dataclass
class _Changes:
    """What a transaction has changed so far."""

    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Differences of counts, by state and project."""

    ended: list[tuple[str, int]] = field(default_factory=list)
    """Attempts by run id and number."""


def record_run_state(session: Session, *, project: str, old: str | None, new: str) -> None:
    """Record that a run was added (`old` is None), or has changed its state."""
    changes = _get_changes(session)
    changes.runs[new, project] += 1
    if old is not None:
        changes.runs[old, project] -= 1


def record_attempt_end(session: Session, run_id: str, number: int) -> None:
    """Record that an attempt has ended."""
    _get_changes(session).ended.append((run_id, number))


def apply_changes(session: Session) -> None:
    """Add what the transaction has changed to the totals, right before its commit."""
    changes: _Changes | None = session.info.pop(_KEY, None)
    if changes is None:
        return
    attempt_totals = _sum_attempts(session, changes.ended) if changes.ended else []
    run_counts = [
        {"state": state, "project": project, "runs": difference}
        for (state, project), difference in sorted(changes.runs.items())
        if difference
    ]
    _add(session, RunCountRow, run_counts)
    _add(session, AttemptTotalRow, attempt_totals)


def select_usages() -> Any:
    """Attempts with what their usage of resources is computed from."""
    return select(
        RunRow.project,
        AttemptRow.reason,
        AttemptRow.processes,
        AttemptRow.num_cpus,
        AttemptRow.num_gpus,
        AttemptRow.created_at,
        AttemptRow.ended_at,
        AttemptRow.pack_job,
    ).join(RunRow, RunRow.id == AttemptRow.run_id)


def usage_from_row(row: Any, *, until: Any) -> Usage:
    return Usage(
        project=row.project,
        processes=row.processes,
        num_cpus=row.num_cpus,
        num_gpus=row.num_gpus,
        since=row.created_at,
        until=until,
        pack_job=row.pack_job,
    )


def _get_changes(session: Session) -> _Changes:
    changes: _Changes = session.info.setdefault(_KEY, _Changes())
    return changes


def _sum_attempts(session: Session, ended: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    """What these attempts add to the totals.

    A pack counts once, with the last of its members: its resources are free only then.
    """
    rows = [row for key in ended for row in session.execute(_select_attempt(*key))]
    counts = Counter((row.project, row.reason or "") for row in rows)
    usages: dict[tuple[str, str], list[Usage]] = {}
    jobs: dict[str, tuple[str, str]] = {}
    for row in rows:
        key = (row.project, row.reason or "")
        if row.pack_job is None:
            usages.setdefault(key, []).append(usage_from_row(row, until=row.ended_at))
        else:
            jobs[row.pack_job] = key
    if jobs:
        # Otherwise two transactions that end members of a pack could each take the other's member
        # for a running one, and none would count the pack.
        acquire(AdvisoryLock.PACKS, session.connection())
    for job, key in jobs.items():
        usages.setdefault(key, []).extend(_find_pack_usage(session, job))
    return [
        {"project": project, "reason": reason, "attempts": counts[project, reason]}
        | _sum_resources(usages.get((project, reason), []))
        for project, reason in sorted(counts)
    ]


def _select_attempt(run_id: str, number: int) -> Any:
    return select_usages().where(AttemptRow.run_id == run_id, AttemptRow.number == number)


def _find_pack_usage(session: Session, job: str) -> list[Usage]:
    """The usage of a pack; empty while one of its members runs."""
    members = session.execute(select_usages().where(AttemptRow.pack_job == job)).all()
    if any(member.ended_at is None for member in members):
        return []
    return merge_packs(usage_from_row(member, until=member.ended_at) for member in members)


def _sum_resources(usages: Iterable[Usage]) -> dict[str, float]:
    totals = totals_by_project(usages, before={}).values()
    return {
        "cpu_s": sum(total.cpu_s for total in totals),
        "gpu_s": sum(total.gpu_s for total in totals),
    }


def _add(session: Session, table: _Totals, rows: list[dict[str, Any]]) -> None:
    """Add these differences to the rows with their primary keys, which are created if needed."""
    if not rows:
        return
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    session.connection().execute(_make_addition(table, is_sqlite=is_sqlite), rows)


@cache
def _make_addition(table: _Totals, *, is_sqlite: bool) -> Insert:
    """One statement for any number of rows: with the rows in it, each would be compiled anew."""
    insert = sqlite_insert if is_sqlite else postgresql_insert
    core_table = get_table(table)
    addition = insert(core_table)
    return addition.on_conflict_do_update(
        index_elements=[column.name for column in core_table.primary_key],
        set_={
            column.name: column + addition.excluded[column.name]
            for column in core_table.columns
            if not column.primary_key
        },
    )
