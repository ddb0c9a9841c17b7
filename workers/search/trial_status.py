"""Notices for the processes that follow the trials: what the service has heard of each."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from configs.protocol.names import ExitCode
from configs.protocol.sweep_log import TrialProgress
from workers.search.follower import status_file
from workers.search.sweep_log import DriverExit, SweepLogMirror


class TrialStatusWriter:
    """Asks the service now and then, for all trials at once."""

    def __init__(
        self,
        folder: Path,
        ledger: SweepLogMirror,
        *,
        interval_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._ledger = ledger
        self._every_s = interval_s
        self._monotonic = monotonic
        self._next_look = monotonic()
        self._written: dict[int, str] = {}

    def poll(self) -> None:
        """Bring the notices up to date, if it is time."""
        if self._monotonic() < self._next_look:
            return
        for standing in self._ledger.read_standings().trials:
            if standing.number >= len(self._ledger.sweep.trials):
                message = f"Another driver began trial {standing.number}."
                raise DriverExit(ExitCode.SUPERSEDED, message)
            self._write(standing)
        self._next_look = self._monotonic() + self._every_s

    def _write(self, standing: TrialProgress) -> None:
        """What is in the list already is not told again."""
        trial = self._ledger.sweep.trials[standing.number]
        new = [one for one in standing.evaluations if one.epoch > trial.last_epoch]
        new.sort(key=lambda one: one.epoch)
        notice = {"evaluations": [one.model_dump() for one in new], "result": standing.result}
        text = json.dumps(notice)
        if self._written.get(standing.number) == text:
            return
        path = status_file(self.folder, standing.number)
        beside = path.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
        self._written[standing.number] = text
