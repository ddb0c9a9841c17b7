"""Did it help? A taught run and its twin are compared by a report, and what it says is shown.

One service process at a time has this duty. Every step is found by what the database lacks, and
takes one transaction: whoever is killed between two leaves the next one to be done.
"""

from functools import partial

import structlog

from service.domain.errors import TandemError, Unreachable
from service.loops.base import each, is_on_duty
from service.usecases.baselines.comparisons import show_comparison, tell_of_baseline
from service.usecases.context import World
from service.usecases.reports import compare_once, read_report

_DUTY = "comparisons"
_LOOP = "compare"

log = structlog.get_logger(__name__)


def compare_twins(world: World) -> None:
    """Tell of baselines, book the reports that are due, read those that are made, show them."""
    with world.store.begin() as unit:
        if not is_on_duty(unit, _DUTY, world=world):
            return
        changed = [*unit.twins.without_baseline(), *unit.twins.with_baseline_again()]
        due = unit.twins.to_compare()
        made = unit.twins.reports_to_read()
    each(changed, lambda run: tell_of_baseline(run.id, world=world), loop=_LOOP)
    each(due, lambda run: compare_once(run.id, world=world), loop=_LOOP)
    each(made, partial(read_report, world=world), loop=_LOOP)
    _show(world)


def _show(world: World) -> None:
    """One that cannot be shown keeps no other from it; MLflow's silence is the same for all."""
    with world.store.begin() as unit:
        unshown = unit.comparisons.to_show()
    for kept in unshown:
        try:
            show_comparison(kept, world=world)
        except Unreachable:
            raise
        except TandemError as error:
            log.warning("comparison.not_shown", run_id=kept.run_id, why=str(error))
