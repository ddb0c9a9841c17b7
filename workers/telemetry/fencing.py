"""Detects, without the service, that a newer attempt of the same run has started.

A process that has lost the network but not the disk would otherwise train beside its successor.
"""

import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

_POLL_INTERVAL_S = 2.0


class _LatestAttempt(BaseModel):
    """The field of an identity file (`AttemptIdentity`) that is read here."""

    attempt: int


class AttemptFence:
    """Polls the identity file of a run's folder, which each new attempt overwrites."""

    def __init__(self, file: Path, *, attempt: int) -> None:
        self._file = file
        self._attempt = attempt
        self._polled_at_s = time.monotonic()
        self._is_superseded = False

    def is_superseded(self, *, at_once: bool = False) -> bool:
        """Whether a newer attempt has started; once true, it stays true.

        The file is read every few seconds, or `at_once`: a process that was frozen continues where
        it was, and its clock may have been frozen, too.
        """
        now_s = time.monotonic()
        is_due = at_once or now_s - self._polled_at_s >= _POLL_INTERVAL_S
        if not self._is_superseded and is_due:
            self._polled_at_s = now_s
            self._is_superseded = self._latest_attempt() > self._attempt
        return self._is_superseded

    def _latest_attempt(self) -> int:
        try:
            return _LatestAttempt.model_validate_json(self._file.read_bytes()).attempt
        except (OSError, ValidationError):
            return self._attempt
