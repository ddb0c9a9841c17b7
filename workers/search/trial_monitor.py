"""The process that Ray Tune runs for a trial: it trains nothing and reports from a status file.

The driver keeps one status file per trial up to date on its own node, where the monitors also run.
There may be many monitors, so this module imports nothing large, not even Ray Tune.
"""

import json
import time
from pathlib import Path
from typing import Any

_POLL_INTERVAL_S = 0.1


def status_file(folder: Path, number: int) -> Path:
    """Path of a trial's status file."""
    return folder / f"{number}.json"


class TrialMonitor:
    """Reports the trial `number` from its status file in `folder`; Ray Tune's `Trainable` API."""

    def __init__(self, config: dict[str, Any], storage: None = None) -> None:
        self.reset(config, storage)

    def reset(self, config: dict[str, Any], storage: None = None) -> bool:  # noqa: ARG002
        """Start reporting a trial; Tune reuses the process for one trial after another."""
        self._status_file = status_file(Path(config["folder"]), config["number"])
        self._epoch = 0
        return True

    def train(self) -> dict[str, Any]:
        """Wait for the next evaluation, or for the trial's result after the last one."""
        while True:
            result = self._read_next()
            if result is not None:
                return result
            time.sleep(_POLL_INTERVAL_S)

    def stop(self) -> None:
        """Called by Tune; there is nothing to release."""

    def get_auto_filled_metrics(self, *, debug_metrics_only: bool) -> dict[str, Any]:  # noqa: ARG002
        """Called by Tune; adds no metrics to those of the service."""
        return {}

    @classmethod
    def default_resource_request(cls, _: dict[str, Any]) -> None:
        """Called by Tune; None because the trial states its own resources."""

    def _read_next(self) -> dict[str, Any] | None:
        try:
            status = json.loads(self._status_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        for evaluation in status["evaluations"]:
            if evaluation["epoch"] > self._epoch:
                self._epoch = evaluation["epoch"]
                return {**evaluation, "is_over": status["result"] is not None, "done": False}
        if status["result"] is None:
            return None
        return {"epoch": self._epoch, "result": status["result"], "done": True}


def to_none(_: object) -> None:
    """Serializer that replaces an object by None."""
