"""The list of a sweep, at the service: read once, then added to. All that a driver knows is there.

A service that does not answer is waited for; one that refuses ends the driver, and so does another
driver that wrote to the list.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from configs.protocol.names import ExitCode
from configs.protocol.sweep_log import (
    AS_MEANT,
    Appended,
    Closed,
    Ended,
    Judged,
    Standings,
    SweepAppend,
    SweepEntry,
    SweepLog,
    Trial,
    TrialResult,
    best_of,
    note,
    spec_in_force,
)
from configs.spec.sweep import Objective, SweepSpec
from workers.telemetry.service_client import Conflict, ServiceDoor, understood
from workers.telemetry.shipper import SinkBroken, SinkRefused, SinkUnavailable

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_JSON = "application/json"

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Leaving(SystemExit):
    """The driver ends here; passes through Ray Tune, which catches every `Exception`."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(int(code))
        self.exit_code = code
        self.message = message


class SweepDoor:
    """What a driver asks the service about one sweep, with all the patience there is."""

    def __init__(
        self,
        url: str,
        *,
        sweep: str,
        token_file: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._door = ServiceDoor(url, token_file=token_file)
        self._path = f"/v1/sweeps/{sweep}"
        self._sleep = sleep

    def read_log(self) -> SweepLog:
        """The sweep and its whole list."""
        return self._patiently(lambda: understood(SweepLog, self._door.get(f"{self._path}/log")))

    def append(self, entries: SweepAppend) -> Appended:
        """Add to the list; if the answer is lost, the same entries are sent again."""
        body = entries.model_dump_json()
        return self._patiently(
            lambda: understood(
                Appended, self._door.post(f"{self._path}/log", body, media_type=_JSON)
            )
        )

    def standings(self) -> Standings:
        """How far the trials are."""
        return self._patiently(
            lambda: understood(Standings, self._door.get(f"{self._path}/standings"))
        )

    def close(self) -> None:
        """Close the connection."""
        self._door.close()

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return ask()
            except (Conflict, SinkRefused) as conflict:
                message = f"Another driver, or a person, wrote to the list. {conflict}"
                raise Leaving(ExitCode.FENCED, message) from conflict
            except SinkBroken as refusal:
                raise Leaving(ExitCode.REFUSED, str(refusal)) from refusal
            except SinkUnavailable as trouble:
                log.warning("The service is not there (%s); waits %g s.", trouble, pause_s)
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class Ledger:
    """The list as it is known here, always as long as the service's."""

    def __init__(self, door: SweepDoor) -> None:
        told = door.read_log()
        self.history = History(told.spec, told.entries)
        self.begins_trials = told.begins_trials
        self.concurrency = told.concurrency
        self._door = door

    def append(self, *entries: SweepEntry) -> None:
        """All of them or none; `Leaving` if somebody else has written before."""
        answer = self._door.append(SweepAppend(first=self.history.length, entries=entries))
        for entry in entries:
            self.history.add(entry)
        self.begins_trials = answer.begins_trials

    def standings(self) -> Standings:
        """How far the trials are, from the service."""
        told = self._door.standings()
        self.begins_trials = told.begins_trials
        return told


class History:
    """The list of a sweep, entry by entry."""

    def __init__(self, spec: SweepSpec, entries: Iterable[SweepEntry] = ()) -> None:
        self.spec = spec
        self.length = 0
        self.is_closed = False
        self.plan = spec
        """The spec in force: as it was asked, or as a person extended it."""

        self._trials: dict[int, Trial] = {}
        self._judged: list[Judged] = []
        for entry in entries:
            self.add(entry)

    @property
    def trials(self) -> Sequence[Trial]:
        """By number."""
        return list(self._trials.values())

    @property
    def judged(self) -> Sequence[Judged]:
        """Of all trials, in the list's order."""
        return self._judged

    def add(self, entry: SweepEntry) -> None:
        """One thing more happened."""
        self.length += 1
        note(entry, self._trials)
        if isinstance(entry, Judged):
            self._judged.append(entry)
        self.plan = spec_in_force(self.plan, [entry])
        self.is_closed = isinstance(entry, Closed)

    def end_of(self, number: int, result: TrialResult, *, last: Judged | None = None) -> Ended:
        """What is written of a trial's end; `last`: a judgement that is not in the list yet."""
        judged = [*self._trials[number].judged, *([] if last is None else [last])]
        return Ended(
            number=number,
            result=result,
            epoch=judged[-1].epoch if judged else 0,
            values=best_values(self.spec.objectives, judged),
        )


def best_values(objectives: Iterable[Objective], judged: Sequence[Judged]) -> dict[str, float]:
    """Each objective's best over some evaluations, by metric."""
    told = [one.values for one in judged]
    found = {objective.metric: best_of(objective, told) for objective in objectives}
    return {metric: value for metric, value in found.items() if value is not None}


def score(trial: Trial, objective: Objective) -> tuple[bool, float] | None:
    """Larger is better, and a finished trial before a stopped one; none: it has no result."""
    if trial.ended is None or trial.ended.result not in AS_MEANT:
        return None
    value = trial.ended.values.get(objective.metric)
    if value is None:
        return None
    return trial.ended.result == "finished", value if objective.goal == "max" else -value
