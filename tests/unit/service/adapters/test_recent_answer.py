"""An answer that threads share for a moment."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.adapters.recent_answer import RecentAnswer
from service.domain.errors.systems import ClusterUnreachable


def test_threads_that_ask_at_once_share_an_answer() -> None:
    questions: list[int] = []
    all_have_come = threading.Event()

    def ask() -> int:
        all_have_come.wait(60)
        questions.append(1)
        return len(questions)

    answer = RecentAnswer(ask, max_age_s=60)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(answer.get) for _ in range(4)]
        all_have_come.set()
        results = [future.result() for future in futures]

    assert results == [1, 1, 1, 1]


def test_a_system_that_does_not_answer_is_not_asked_by_each() -> None:
    questions: list[int] = []

    def ask() -> int:
        questions.append(1)
        raise ClusterUnreachable("Ray does not answer.")

    answer = RecentAnswer(ask, max_age_s=60)
    for _ in range(3):
        with pytest.raises(ClusterUnreachable, match="does not answer"):
            answer.get()

    assert len(questions) == 1


def test_an_old_answer_is_asked_for_again() -> None:
    answers = iter([1, 2])
    answer = RecentAnswer(lambda: next(answers), max_age_s=-1)

    assert [answer.get(), answer.get()] == [1, 2]
