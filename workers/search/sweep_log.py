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
    COMPLETED_RESULTS,
    AppendReceipt,
    SearchProgress,
    SweepClosed,
    SweepEntry,
    SweepLog,
    SweepLogAppend,
    Trial,
    TrialEnded,
    TrialJudged,
    TrialResult,
    active_spec,
    apply_entry,
    best_value,
)
from configs.spec.sweep import Objective, SweepSpec
from workers.telemetry.service_client import ServiceClient, SinkConflict, parse_response
from workers.telemetry.shipper import SinkProtocolError, SinkRefused, SinkUnavailable

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_JSON = "application/json"

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class DriverExit(SystemExit):
    """The driver ends here; passes through Ray Tune, which catches every `Exception`."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(int(code))
        self.exit_code = code
        self.message = message


class SweepLogClient:
    """What a driver asks the service about one sweep, with all the patience there is."""

    def __init__(
        self,
        url: str,
        *,
        sweep: str,
        token_file: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._door = ServiceClient(url, token_file=token_file)
        self._path = f"/v1/sweeps/{sweep}"
        self._sleep = sleep

    def read_log(self) -> SweepLog:
        """The sweep and its whole list."""
        return self._patiently(
            lambda: parse_response(SweepLog, self._door.get(f"{self._path}/log"))
        )

    def append(self, entries: SweepLogAppend) -> AppendReceipt:
        """Add to the list; if the answer is lost, the same entries are sent again."""
        body = entries.model_dump_json()
        return self._patiently(
            lambda: parse_response(
                AppendReceipt, self._door.post(f"{self._path}/log", body, media_type=_JSON)
            )
        )

    def read_standings(self) -> SearchProgress:
        """How far the trials are."""
        return self._patiently(
            lambda: parse_response(SearchProgress, self._door.get(f"{self._path}/standings"))
        )

    def close(self) -> None:
        """Close the connection."""
        self._door.close()

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return ask()
            except (SinkConflict, SinkRefused) as conflict:
                message = f"Another driver, or a person, wrote to the list. {conflict}"
                raise DriverExit(ExitCode.SUPERSEDED, message) from conflict
            except SinkProtocolError as refusal:
                raise DriverExit(ExitCode.REFUSED, str(refusal)) from refusal
            except SinkUnavailable as trouble:
                log.warning("The service is not there (%s); waits %g s.", trouble, pause_s)
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class SweepLogMirror:
    """The list as it is known here, always as long as the service's."""

    def __init__(self, door: SweepLogClient) -> None:
        told = door.read_log()
        self.sweep = ReplayedSweep(told.spec, told.entries)
        self.allows_new_trials = told.allows_new_trials
        self.concurrency = told.concurrency
        self._door = door

    def append(self, *entries: SweepEntry) -> None:
        """All of them or none; `DriverExit` if somebody else has written before."""
        answer = self._door.append(SweepLogAppend(first=self.sweep.length, entries=entries))
        for entry in entries:
            self.sweep.add(entry)
        self.allows_new_trials = answer.allows_new_trials

    def read_standings(self) -> SearchProgress:
        """How far the trials are, from the service."""
        told = self._door.read_standings()
        self.allows_new_trials = told.allows_new_trials
        return told


class ReplayedSweep:
    """The list of a sweep, entry by entry."""

    def __init__(self, spec: SweepSpec, entries: Iterable[SweepEntry] = ()) -> None:
        self.spec = spec
        self.length = 0
        self.is_closed = False
        self.active_spec = spec
        """The spec in force: as it was asked, or as a person extended it."""

        self._trials: dict[int, Trial] = {}
        self._judged: list[TrialJudged] = []
        for entry in entries:
            self.add(entry)

    @property
    def trials(self) -> Sequence[Trial]:
        """By number."""
        return list(self._trials.values())

    @property
    def judgments(self) -> Sequence[TrialJudged]:
        """Of all trials, in the list's order."""
        return self._judged

    def add(self, entry: SweepEntry) -> None:
        """One thing more happened."""
        self.length += 1
        apply_entry(entry, self._trials)
        if isinstance(entry, TrialJudged):
            self._judged.append(entry)
        self.active_spec = active_spec(self.active_spec, [entry])
        self.is_closed = isinstance(entry, SweepClosed)

    def build_ended(
        self, number: int, result: TrialResult, *, last: TrialJudged | None = None
    ) -> TrialEnded:
        """What is written of a trial's end; `last`: a judgement that is not in the list yet."""
        judged = [*self._trials[number].judgments, *([] if last is None else [last])]
        return TrialEnded(
            number=number,
            result=result,
            epoch=judged[-1].epoch if judged else 0,
            values=best_values(self.spec.objectives, judged),
        )


def best_values(objectives: Iterable[Objective], judged: Sequence[TrialJudged]) -> dict[str, float]:
    """Each objective's best over some evaluations, by metric."""
    told = [one.values for one in judged]
    found = {objective.metric: best_value(objective, told) for objective in objectives}
    return {metric: value for metric, value in found.items() if value is not None}


def score(trial: Trial, objective: Objective) -> tuple[bool, float] | None:
    """Larger is better, and a finished trial before a stopped one; none: it has no result."""
    if trial.ended is None or trial.ended.result not in COMPLETED_RESULTS:
        return None
    value = trial.ended.values.get(objective.metric)
    if value is None:
        return None
    return trial.ended.result == "finished", value if objective.goal == "max" else -value
