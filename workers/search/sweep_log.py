"""The driver's copy of a sweep's log, which is kept by the service and holds all state.

The log is read once and then appended to. Requests are retried while the service is unavailable.
The driver exits if the service refuses a request or another driver has appended to the log.
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

_INITIAL_DELAY_S = 0.5
_MAX_DELAY_S = 30.0
_JSON = "application/json"

ResponseT = TypeVar("ResponseT")

log = logging.getLogger(__name__)


class DriverExit(SystemExit):
    """Ends the driver. Not an `Exception`, all of which Ray Tune would catch."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(int(code))
        self.exit_code = code
        self.message = message


class SweepLogClient:
    """Client for the log of one sweep; retries without limit while the service is unavailable."""

    def __init__(
        self,
        url: str,
        *,
        sweep: str,
        token_file: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = ServiceClient(url, token_file=token_file)
        self._path = f"/v1/sweeps/{sweep}"
        self._sleep = sleep

    def read_log(self) -> SweepLog:
        """Read the sweep's spec and all entries of its log."""
        return self._retry_until_available(
            lambda: parse_response(SweepLog, self._client.get(f"{self._path}/log"))
        )

    def append(self, entries: SweepLogAppend) -> AppendReceipt:
        """Append to the log; idempotent, so entries are sent again if a response is lost."""
        body = entries.model_dump_json()
        return self._retry_until_available(
            lambda: parse_response(
                AppendReceipt, self._client.post(f"{self._path}/log", body, media_type=_JSON)
            )
        )

    def read_progress(self) -> SearchProgress:
        """Read the progress of all trials that have not ended in the log."""
        return self._retry_until_available(
            lambda: parse_response(SearchProgress, self._client.get(f"{self._path}/standings"))
        )

    def close(self) -> None:
        """Close the connection to the service."""
        self._client.close()

    def _retry_until_available(self, request: Callable[[], ResponseT]) -> ResponseT:
        delay_s = _INITIAL_DELAY_S
        while True:
            try:
                return request()
            except (SinkConflict, SinkRefused) as error:
                message = f"Another driver or a person has appended to the log. {error}"
                raise DriverExit(ExitCode.SUPERSEDED, message) from error
            except SinkProtocolError as error:
                raise DriverExit(ExitCode.REFUSED, str(error)) from error
            except SinkUnavailable as error:
                log.warning("The service is unavailable (%s); retrying in %g s.", error, delay_s)
            self._sleep(delay_s)
            delay_s = min(2 * delay_s, _MAX_DELAY_S)


class SweepLogMirror:
    """The driver's copy of the log, always as long as the service's."""

    def __init__(self, client: SweepLogClient) -> None:
        log = client.read_log()
        self.sweep = ReplayedSweep(log.spec, log.entries)
        self.allows_new_trials = log.allows_new_trials
        self.concurrency = log.concurrency
        self._client = client

    def append(self, *entries: SweepEntry) -> None:
        """Append all entries or none; `DriverExit` if someone else has appended before."""
        receipt = self._client.append(SweepLogAppend(first=self.sweep.length, entries=entries))
        for entry in entries:
            self.sweep.add(entry)
        self.allows_new_trials = receipt.allows_new_trials

    def read_progress(self) -> SearchProgress:
        """Read the trials' progress, and whether new trials are allowed."""
        progress = self._client.read_progress()
        self.allows_new_trials = progress.allows_new_trials
        return progress


class ReplayedSweep:
    """State of a sweep, replayed from the entries of its log."""

    def __init__(self, spec: SweepSpec, entries: Iterable[SweepEntry] = ()) -> None:
        self.spec = spec
        self.length = 0
        self.is_closed = False
        self.active_spec = spec
        """The spec with the changes of the last extension."""

        self._trials: dict[int, Trial] = {}
        self._judgments: list[TrialJudged] = []
        for entry in entries:
            self.add(entry)

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials, ordered by number."""
        return list(self._trials.values())

    @property
    def judgments(self) -> Sequence[TrialJudged]:
        """Judgments of all trials, in the order of the log."""
        return self._judgments

    def add(self, entry: SweepEntry) -> None:
        """Apply the next entry of the log."""
        self.length += 1
        apply_entry(entry, self._trials)
        if isinstance(entry, TrialJudged):
            self._judgments.append(entry)
        self.active_spec = active_spec(self.active_spec, [entry])
        self.is_closed = isinstance(entry, SweepClosed)

    def build_ended(
        self, number: int, result: TrialResult, *, last: TrialJudged | None = None
    ) -> TrialEnded:
        """Build the entry of a trial's end; `last` is a judgment that is not in the log yet."""
        judgments = [*self._trials[number].judgments, *([] if last is None else [last])]
        return TrialEnded(
            number=number,
            result=result,
            epoch=judgments[-1].epoch if judgments else 0,
            values=best_values(self.spec.objectives, judgments),
        )


def best_values(
    objectives: Iterable[Objective], judgments: Sequence[TrialJudged]
) -> dict[str, float]:
    """Best value of each objective over the evaluations, by metric."""
    evaluations = [judgment.values for judgment in judgments]
    best = {objective.metric: best_value(objective, evaluations) for objective in objectives}
    return {metric: value for metric, value in best.items() if value is not None}


def score(trial: Trial, objective: Objective) -> tuple[bool, float] | None:
    """Sort key of a trial, larger is better: finished before stopped, then the objective.

    None for a trial without a result or without a value of the objective.
    """
    if trial.ended is None or trial.ended.result not in COMPLETED_RESULTS:
        return None
    value = trial.ended.values.get(objective.metric)
    if value is None:
        return None
    return trial.ended.result == "finished", value if objective.goal == "max" else -value
