"""Cache of the logs of active sweeps: logs only grow, so each entry is read once."""

from dataclasses import dataclass, field

from configs.protocol.sweep_log import Trial, apply_entry
from service.domain.metrics.sweeps import ActiveSweep
from service.domain.repositories.unit_of_work import UnitOfWork
from service.domain.sweeps import UNFINISHED_SWEEP_STATES


@dataclass
class _CachedLog:
    length: int = 0
    trials: dict[int, Trial] = field(default_factory=dict)


@dataclass
class SweepLogCache:
    """The trials from all log entries read so far; not thread-safe."""

    _logs: dict[str, _CachedLog] = field(default_factory=dict)

    def read_active_sweeps(self, uow: UnitOfWork) -> list[ActiveSweep]:
        """Unfinished sweeps with all of their trials, oldest first."""
        sweeps = uow.sweeps.in_states(*UNFINISHED_SWEEP_STATES)
        self._logs = {sweep.id: self._logs.get(sweep.id, _CachedLog()) for sweep in sweeps}
        self._read_new_entries(uow)
        return [
            ActiveSweep(
                id=sweep.id,
                name=sweep.name,
                project=sweep.project,
                objective=sweep.spec.objectives[0],
                trials=self._logs[sweep.id].trials,
            )
            for sweep in sweeps
        ]

    def _read_new_entries(self, uow: UnitOfWork) -> None:
        lengths = {sweep_id: log.length for sweep_id, log in self._logs.items()}
        for sweep_id, entries in uow.sweeps.new_entries(lengths).items():
            log = self._logs[sweep_id]
            for entry in entries:
                apply_entry(entry, log.trials)
            log.length += len(entries)
