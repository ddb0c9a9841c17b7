"""The queued runs, of which each turn reads only what has changed."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from service.domain.ids import split_ids
from service.domain.repositories.runs import QueueState
from service.domain.runs import Run
from service.domain.states import RunState
from service.usecases.context import Context
from service.usecases.leadership import Leadership

_BATCH_SIZE = 500


@dataclass
class QueueReader:
    """Keeps the runs of the queue from turn to turn: parsing 10,000 specs takes seconds."""

    ctx: Context
    reasons: dict[str, str | None] = field(default_factory=dict)
    """What each run waits for, as it is stored; `waiting_for` of the runs themselves is older."""

    _runs: dict[str, Run] = field(default_factory=dict)

    def read(self, leadership: Leadership) -> list[Run]:
        """All queued runs, oldest first; new ones are read in batches, between which the lease is
        renewed. Raises `LeadershipLost`."""
        with self.ctx.store.snapshot() as uow:
            states = uow.runs.queue_states()
        self.reasons = {state.run_id: state.waiting_for for state in states}
        current = {state.run_id: self._update(state) for state in states}
        self._runs = {run_id: run for run_id, run in current.items() if run is not None}
        missing = [run_id for run_id, run in current.items() if run is None]
        for batch in split_ids(missing, size=_BATCH_SIZE):
            leadership.renew()
            with self.ctx.store.snapshot() as uow:
                self._runs |= {run.id: run for run in uow.runs.queued(batch)}
        return [self._runs[run_id] for run_id in current if run_id in self._runs]

    def read_states(self, run_ids: Collection[str]) -> dict[str, RunState]:
        """The states of other runs, by id."""
        states: dict[str, RunState] = {}
        for batch in split_ids(sorted(run_ids), size=_BATCH_SIZE):
            with self.ctx.store.snapshot() as uow:
                states |= uow.runs.states_of(batch)
        return states

    def clear(self) -> None:
        """Forget the queue, which another process schedules from now on."""
        self._runs.clear()
        self.reasons.clear()

    def _update(self, state: QueueState) -> Run | None:
        """The run as it is now; None if all of it must be read."""
        run = self._runs.get(state.run_id)
        if run is None or (run.updated_at, run.attempt, run.retries.not_before) != (
            state.updated_at,
            state.attempt,
            state.not_before,
        ):
            return None
        if run.queue.priority == state.priority:
            return run
        return replace(run, queue=replace(run.queue, priority=state.priority))
