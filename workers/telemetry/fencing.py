"""Whether a newer attempt has begun in the same folder: seen even where no service answers.

A process that is cut off from the network, but not from the disk, would else go on beside it.
"""

import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

_LOOK_EVERY_S = 2.0


class _Attempt(BaseModel):
    """What is read of who reports from a folder."""

    attempt: int


class AttemptFence:
    """Looks at who reported last from a run's folder, now and then."""

    def __init__(self, file: Path, *, attempt: int) -> None:
        self._file = file
        self._attempt = attempt
        self._looked_at_s = time.monotonic()
        self._is_crossed = False

    def is_superseded(self) -> bool:
        """Whether a newer attempt has begun."""
        now_s = time.monotonic()
        if not self._is_crossed and now_s - self._looked_at_s >= _LOOK_EVERY_S:
            self._looked_at_s = now_s
            self._is_crossed = self._newest() > self._attempt
        return self._is_crossed

    def _newest(self) -> int:
        try:
            return _Attempt.model_validate_json(self._file.read_bytes()).attempt
        except (OSError, ValidationError):
            return self._attempt
