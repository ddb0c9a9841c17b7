"""Answers of a slow system that several threads may share for a moment."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from service.domain.errors.systems import Unreachable

Answer = TypeVar("Answer")


class RecentAnswer(Generic[Answer]):
    """Asks a question once for all threads that ask it within `max_age_s`, also where the answer is
    `Unreachable`: without this each of them would wait until it times out."""

    def __init__(self, ask: Callable[[], Answer], *, max_age_s: float) -> None:
        self._ask = ask
        self._max_age_s = max_age_s
        self._mutex = threading.Lock()
        self._answer: Answer | Unreachable | None = None
        self._answered_at_s = 0.0

    def get(self) -> Answer:
        """The answer, or a recent one; raises the `Unreachable` of the question."""
        with self._mutex:
            is_recent = time.monotonic() - self._answered_at_s <= self._max_age_s
            if self._answer is None or not is_recent:
                try:
                    self._answer = self._ask()
                except Unreachable as error:
                    self._answer = error
                self._answered_at_s = time.monotonic()
            answer = self._answer
        if isinstance(answer, Unreachable):
            raise type(answer)(str(answer))
        return answer
