"""Did it help? A taught run and its twin are compared by a report, and what it says is shown.

One service process at a time has this duty. Every step is found by what the database lacks, and
takes one transaction: whoever is killed between two leaves the next one to be done.
"""

from functools import partial

import structlog

from service.domain.errors import TandemError, Unreachable
from service.loops.base import for_each_isolated, is_leader
from service.usecases.baselines.comparisons import sync_comparison, update_baseline_status
from service.usecases.context import Context
from service.usecases.reports import enqueue_comparison_report, import_report

_DUTY = "comparisons"
_LOOP = "compare"

log = structlog.get_logger(__name__)


def compare_baselines(ctx: Context) -> None:
    """Tell of baselines, book the reports that are due, read those that are made, show them."""
    with ctx.store.transaction() as uow:
        if not is_leader(uow, _DUTY, ctx=ctx):
            return
        changed = [
            *uow.baselines.find_with_lost_baseline(),
            *uow.baselines.find_with_restored_baseline(),
        ]
        due = uow.baselines.find_uncompared()
        made = uow.baselines.find_unread_reports()
    for_each_isolated(changed, lambda run: update_baseline_status(run.id, ctx=ctx), loop=_LOOP)
    for_each_isolated(due, lambda run: enqueue_comparison_report(run.id, ctx=ctx), loop=_LOOP)
    for_each_isolated(made, partial(import_report, ctx=ctx), loop=_LOOP)
    _show(ctx)


def _show(ctx: Context) -> None:
    """One that cannot be shown keeps no other from it; MLflow's silence is the same for all."""
    with ctx.store.transaction() as uow:
        unshown = uow.comparisons.not_synced()
    for kept in unshown:
        try:
            sync_comparison(kept, ctx=ctx)
        except Unreachable:
            raise
        except TandemError as error:
            log.warning("comparison.not_shown", run_id=kept.run_id, why=str(error))
