"""Which attempts are over: what a node asks before it ends what they left there."""

from collections.abc import Sequence

from service.domain.runs import Attempt
from service.domain.states import ACTIVE
from service.domain.stored import Unit
from service.usecases.world import World


def attempts_over(names: Sequence[str], *, world: World) -> list[str]:
    """Those of the attempts, and packs of them, that are over for certain; what is not known here
    is left out.
    """
    over = []
    with world.store.begin() as unit:
        for name in names:
            alone = unit.attempts.by_submission(name)
            attempts = [alone] if alone is not None else unit.attempts.of_pack(name)
            if attempts and all(_is_over(unit, attempt) for attempt in attempts):
                over.append(name)
    return over


def _is_over(unit: Unit, attempt: Attempt) -> bool:
    run = unit.runs.get(attempt.run_id)
    is_current = run.attempt == attempt.number and run.state in ACTIVE
    return attempt.ended_at is not None or not is_current
