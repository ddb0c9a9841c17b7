"""Compares distilled runs with their baselines: enqueues reports, imports them, syncs to MLflow.

Only the leader runs this loop. Every step is derived from the database and takes one transaction,
so an interruption between two steps loses nothing.
"""

from collections.abc import Mapping
from functools import partial

import structlog

from service.domain.errors.base import TandemError
from service.domain.errors.systems import Unreachable
from service.loops.base import for_each_isolated
from service.usecases.baselines.comparisons import sync_comparison, update_baseline_status
from service.usecases.context import Context
from service.usecases.leadership import Leadership
from service.usecases.reports import enqueue_comparison_report, import_report

_LEASE = "comparisons"
_LOOP = "compare"

log = structlog.get_logger(__name__)


def compare_baselines(ctx: Context) -> None:
    """Update baseline statuses, enqueue due reports, import finished ones, sync comparisons."""
    if not Leadership(_LEASE, ctx).acquire():
        return
    with ctx.store.snapshot() as uow:
        revisions = uow.baselines.find_changed()
        finished_reports = uow.baselines.find_unread_reports()
    if revisions:
        _follow_changes(revisions, ctx=ctx)
    for_each_isolated(finished_reports, partial(import_report, ctx=ctx), loop=_LOOP)
    _sync(ctx)


def _follow_changes(revisions: Mapping[str, int], *, ctx: Context) -> None:
    """Do what follows from the runs that have changed; what fails is tried again next turn."""
    with ctx.store.snapshot() as uow:
        changed_runs = [
            *uow.baselines.find_with_lost_baseline(),
            *uow.baselines.find_with_restored_baseline(),
        ]
        uncompared_runs = uow.baselines.find_uncompared()
    for_each_isolated(changed_runs, lambda run: update_baseline_status(run.id, ctx=ctx), loop=_LOOP)
    for_each_isolated(
        uncompared_runs, lambda run: enqueue_comparison_report(run.id, ctx=ctx), loop=_LOOP
    )
    with ctx.store.transaction() as uow:
        uow.baselines.mark_compared(revisions)


def _sync(ctx: Context) -> None:
    """Send comparisons to MLflow; an unreachable MLflow ends the turn, other failures do not."""
    with ctx.store.snapshot() as uow:
        unsynced = uow.comparisons.not_synced()
    for comparison in unsynced:
        try:
            sync_comparison(comparison, ctx=ctx)
        except Unreachable:
            raise
        except TandemError as error:
            log.warning("comparison.not_synced", run_id=comparison.run_id, reason=str(error))
