"""Status files for the trial monitors, with the service's progress of each trial."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from configs.atomic_files import write_atomically
from configs.protocol.names import ExitCode
from configs.protocol.sweep_log import TrialProgress
from workers.search.sweep_log import DriverExit, SweepLogMirror
from workers.search.trial_monitor import status_file


class TrialStatusWriter:
    """Polls the service for the progress of all trials and writes their status files."""

    def __init__(
        self,
        folder: Path,
        log_mirror: SweepLogMirror,
        *,
        interval_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._log_mirror = log_mirror
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._next_poll = monotonic()
        self._written: dict[int, str] = {}

    def poll(self) -> None:
        """Update the status files if the poll interval has passed."""
        if self._monotonic() < self._next_poll:
            return
        for progress in self._log_mirror.read_progress().trials:
            if progress.number >= len(self._log_mirror.sweep.trials):
                message = f"Another driver has started trial {progress.number}."
                raise DriverExit(ExitCode.SUPERSEDED, message)
            self._write_status(progress)
        self._next_poll = self._monotonic() + self._interval_s

    def _write_status(self, progress: TrialProgress) -> None:
        """Write the evaluations of a trial that are not in the log yet, and its result."""
        trial = self._log_mirror.sweep.trials[progress.number]
        evaluations = [
            evaluation.model_dump()
            for evaluation in sorted(progress.evaluations, key=lambda item: item.epoch)
            if evaluation.epoch > trial.last_epoch
        ]
        text = json.dumps({"evaluations": evaluations, "result": progress.result})
        if self._written.get(progress.number) == text:
            return
        # The monitors run on this node, so no file is read again after a power failure.
        write_atomically(status_file(self.folder, progress.number), text, durable=False)
        self._written[progress.number] = text
