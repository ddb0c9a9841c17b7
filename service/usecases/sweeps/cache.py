"""The lists of the sweeps that go on, remembered: they only grow, so each entry is read once."""

from dataclasses import dataclass, field

from configs.protocol.sweep_log import Trial, apply_entry
from service.domain.metrics.sweeps import ActiveSweep
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.sweeps import FINISHED_SWEEP_STATES, SweepState


@dataclass
class _List:
    length: int = 0
    trials: dict[int, Trial] = field(default_factory=dict)


@dataclass
class SweepLogCache:
    """What was read of each list so far; not for several threads at once."""

    _lists: dict[str, _List] = field(default_factory=dict)

    def read_active_sweeps(self, uow: UnitOfWork) -> list[ActiveSweep]:
        """Sweeps that are not over with all of their trials, oldest first."""
        sweeps = uow.sweeps.in_states(*(set(SweepState) - FINISHED_SWEEP_STATES))
        self._lists = {sweep.id: self._lists.get(sweep.id, _List()) for sweep in sweeps}
        self._read_on(uow)
        return [
            ActiveSweep(
                id=sweep.id,
                name=sweep.name,
                project=sweep.project,
                objective=sweep.spec.objectives[0],
                trials=self._lists[sweep.id].trials,
            )
            for sweep in sweeps
        ]

    def _read_on(self, uow: UnitOfWork) -> None:
        known = {sweep_id: one.length for sweep_id, one in self._lists.items()}
        for sweep_id, entries in uow.sweeps.new_entries(known).items():
            one = self._lists[sweep_id]
            for entry in entries:
                apply_entry(entry, one.trials)
            one.length += len(entries)
