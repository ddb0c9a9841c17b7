"""A process that follows one trial: it trains nothing and tells what a notice says of the trial.

A notice is a file that the driver keeps up to date on its own node, where these processes are, too.
There may be many of them, so nothing is imported here that takes memory; not even Ray Tune.
"""

import json
import time
from pathlib import Path
from typing import Any

_LOOK_EVERY_S = 0.1


def status_file(folder: Path, number: int) -> Path:
    """Where a trial's notice lies."""
    return folder / f"{number}.json"


class TrialMonitor:
    """Follows the trial `number`, whose notice lies in `folder`; what Ray Tune asks of an actor."""

    def __init__(self, config: dict[str, Any], storage: None = None) -> None:
        self.reset(config, storage)

    def reset(self, config: dict[str, Any], storage: None = None) -> bool:  # noqa: ARG002
        """Begin with a trial, maybe after another one."""
        self._notice = status_file(Path(config["folder"]), config["number"])
        self._epoch = 0
        return True

    def train(self) -> dict[str, Any]:
        """The next evaluation, as soon as there is one; after the last one the trial's result."""
        while True:
            told = self._look()
            if told is not None:
                return told
            time.sleep(_LOOK_EVERY_S)

    def stop(self) -> None:
        """Nothing is open."""

    def get_auto_filled_metrics(self, *, debug_metrics_only: bool) -> dict[str, Any]:  # noqa: ARG002
        """Beside what the service has heard nothing is measured."""
        return {}

    @classmethod
    def default_resource_request(cls, _: dict[str, Any]) -> None:
        """None: the trial says what it needs."""

    def _look(self) -> dict[str, Any] | None:
        try:
            notice = json.loads(self._notice.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        for evaluation in notice["evaluations"]:
            if evaluation["epoch"] > self._epoch:
                self._epoch = evaluation["epoch"]
                return {**evaluation, "is_over": notice["result"] is not None, "done": False}
        if notice["result"] is None:
            return None
        return {"epoch": self._epoch, "result": notice["result"], "done": True}


def to_none(_: object) -> None:
    """What arrives of things that a follower does not need."""
