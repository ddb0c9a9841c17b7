"""Moves runs to another state, together with the event of the transition."""

from configs.protocol.failure import FailureReason
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.runs import Run, transition_event


def record_transition(
    uow: UnitOfWork,
    run: Run,
    updated: Run,
    *,
    actor: str,
    details: str,
    reason: FailureReason | None = None,
) -> Run:
    """Save a run after its `transition`, and add the event; `run` is the run before it."""
    uow.runs.save(updated)
    uow.events.add(
        transition_event(
            run, updated.state, actor=actor, at=updated.updated_at, details=details, reason=reason
        )
    )
    return updated
