"""Chooses the numbers of attempts and drivers, above all that were ever used.

A database that was restored from a backup does not know the attempts since. A second attempt with
the number of one of them would have its job in Ray, which has ended long ago, and its log.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from configs.protocol.names import RunFile, attempt_log_path
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Attempt, Run
from service.usecases.context import Context

_MAX_UNKNOWN = 32
"""How many attempts that the database does not know are looked for in files. A worker can write any
number into its run's folder."""


def choose_next_attempt(run: Run, *, ctx: Context) -> int:
    """The next number after those that the run, its logs, its records and Ray know.

    Raises `ClusterUnreachable`.
    """
    last = max(run.attempt, _find_last_log(run, ctx=ctx), _find_last_record(run, ctx=ctx))
    return next_unused(last, lambda number: f"{run.id}-a{number}", ctx=ctx)


def next_unused(last: int, make_job_id: Callable[[int], str], *, ctx: Context) -> int:
    """The first number after `last` without a job in Ray. Raises `ClusterUnreachable`.

    Ray is asked at each start, because nothing tells that the database was restored.
    """
    number = last + 1
    while ctx.cluster.get_job(make_job_id(number)) is not None:
        number += 1
    return number


def add_unknown_attempts(uow: UnitOfWork, run: Run, *, before: int, at: datetime) -> None:
    """Store the attempts between a run's last one and the number `before` as ended."""
    for number in range(run.attempt + 1, before):
        attempt = Attempt(
            run.id,
            number,
            f"{run.id}-a{number}",
            at,
            ended_at=at,
            num_cpus=0,
            message="Only its log or its job is known: the database is older.",
        )
        uow.attempts.add(attempt)


def _find_last_log(run: Run, *, ctx: Context) -> int:
    """The last attempt with a log, uploaded or in the run's folder."""
    numbers = range(run.attempt + 1, run.attempt + 1 + _MAX_UNKNOWN)
    uploaded = [n for n in ctx.logs.list_attempts(run.id, after=run.attempt) if n in numbers]
    names = {Path(attempt_log_path(number)).name: number for number in numbers}
    folder = ctx.files.run_dir(run.id) / RunFile.LOGS
    written = [names[name] for name in ctx.files.select_existing(folder, names)]
    return max([*uploaded, *written], default=0)


def _find_last_record(run: Run, *, ctx: Context) -> int:
    """The last attempt with a record that the database does not have."""
    records = ctx.files.spool_records(run.id, run.ingest.next_spool_position)
    numbers = {record.attempt for record in records}
    return max((n for n in numbers if n <= run.attempt + _MAX_UNKNOWN), default=0)
