"""One trial of Ray Tune: a process that trains nothing and tells what a notice says of the trial.

A notice is a file that the driver keeps up to date on its own node, where these processes are, too.
There may be many of them: nothing heavy is imported here.
"""

import json
import time
from pathlib import Path
from typing import Any

from ray.tune import Trainable

_LOOK_EVERY_S = 0.1


def notice_of(folder: Path, number: int) -> Path:
    """Where a trial's notice lies."""
    return folder / f"{number}.json"


class Following(Trainable):
    """Follows the trial `number`, whose notice lies in `folder`, to its end."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin with a trial; called by Ray."""
        self._notice = notice_of(Path(config["folder"]), config["number"])
        self._epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin with another trial in the same process; called by Ray."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next evaluation, as soon as there is one; after the last one the trial's result."""
        while True:
            result = self._look()
            if result is not None:
                return result
            time.sleep(_LOOK_EVERY_S)

    def _look(self) -> dict[str, Any] | None:
        try:
            notice = json.loads(self._notice.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        for evaluation in notice["evaluations"]:
            if evaluation["epoch"] > self._epoch:
                self._epoch = evaluation["epoch"]
                return {**evaluation, "is_over": notice["result"] is not None}
        if notice["result"] is None:
            return None
        return {"epoch": self._epoch, "result": notice["result"], "done": True}
