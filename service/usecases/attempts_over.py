"""Which attempts are over: what a node asks before it ends what they left there."""

from collections.abc import Sequence

from service.domain.states import ACTIVE
from service.usecases.world import World


def attempts_over(submission_ids: Sequence[str], *, world: World) -> list[str]:
    """Those of the attempts that are over for certain; what is not known here is left out."""
    over = []
    with world.store.begin() as unit:
        for submission_id in submission_ids:
            attempt = unit.attempts.by_submission(submission_id)
            if attempt is None:
                continue
            run = unit.runs.get(attempt.run_id)
            is_current = run.attempt == attempt.number and run.state in ACTIVE
            if attempt.ended_at is not None or not is_current:
                over.append(submission_id)
    return over
