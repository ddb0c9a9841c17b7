"""Writers of one process: first come, first served, and several in one commit."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

import pytest

from service.domain.errors.requests import RunNotFound
from service.domain.errors.systems import DatabaseUnreachable
from service.domain.repositories.unit_of_work import UnitOfWork
from service.store.writers.group_commit import GroupCommit
from service.store.writers.queue import WriterQueue
from tests.support.waiting import wait_until


class TestQueue:
    """The turns of threads."""

    def test_turns_come_in_the_order_in_which_threads_asked(self) -> None:
        queue, order = WriterQueue(), []

        def write(number: int) -> None:
            with queue.turn(timeout_s=60):
                order.append(number)

        with ThreadPoolExecutor(8) as pool, queue.turn(timeout_s=60):
            for number in range(8):
                pool.submit(write, number)
                wait_until(lambda: len(queue._waiting) == number + 1, timeout_s=60)  # noqa: B023
            assert order == []

        assert order == list(range(8))

    def test_who_waits_too_long_is_told_and_holds_up_nobody(self) -> None:
        queue = WriterQueue()
        with ThreadPoolExecutor(1) as pool, queue.turn(timeout_s=60):
            late = pool.submit(_take_turn, queue, timeout_s=0.01)
            with pytest.raises(DatabaseUnreachable, match="locks the database"):
                late.result()

        _take_turn(queue, timeout_s=0.01)

    def test_a_failure_passes_the_turn_on(self) -> None:
        queue = WriterQueue()
        with pytest.raises(ZeroDivisionError), queue.turn(timeout_s=60):
            raise ZeroDivisionError

        _take_turn(queue, timeout_s=0.01)

    def test_a_thread_that_would_wait_for_itself_is_told_at_once(self) -> None:
        queue = WriterQueue()
        with queue.turn(timeout_s=60), pytest.raises(RuntimeError, match="within another"):
            _take_turn(queue, timeout_s=60)


class TestGroupCommit:
    """Writes that arrive during a commit."""

    def test_they_share_the_next_commit_and_each_gets_its_result(self) -> None:
        transactions = Transactions()

        results = transactions.run_during_a_commit([_return(n) for n in range(5)])

        assert [future.result() for future in results] == list(range(5))
        assert transactions.committed == [1, 5]

    def test_the_error_of_one_is_its_own(self) -> None:
        transactions = Transactions()

        good, bad, other = transactions.run_during_a_commit(
            [lambda _: "good", _raise(RunNotFound("r1")), lambda _: "other"]
        )

        assert (good.result(), other.result()) == ("good", "other")
        with pytest.raises(RunNotFound):
            bad.result()
        assert transactions.committed == [1, 1, 1]

    def test_a_commit_whose_end_is_unknown_is_not_repeated(self) -> None:
        transactions = Transactions(fails_from=2)

        results = transactions.run_during_a_commit([lambda _: 1, lambda _: 2])

        for future in results:
            with pytest.raises(DatabaseUnreachable, match="may have succeeded"):
                future.result()
        assert transactions.num_begun == 2

    def test_later_writes_go_on_after_a_failure(self) -> None:
        group = GroupCommit(Transactions().transaction)
        with pytest.raises(ZeroDivisionError):
            group.run(_raise(ZeroDivisionError()))

        assert group.run(lambda _: 3) == 3


class Transactions:
    """Transactions without a database; the first one waits until it is released."""

    def __init__(self, *, fails_from: int | None = None) -> None:
        self.num_begun = 0
        self.committed: list[int] = []
        """The number of writes of each commit."""

        self._fails_from = fails_from
        self._num_writes = 0

    @contextmanager
    def transaction(self) -> Iterator[UnitOfWork]:
        self.num_begun += 1
        self._num_writes = 0
        yield cast("UnitOfWork", self)
        if self._fails_from is not None and self.num_begun >= self._fails_from:
            raise DatabaseUnreachable("It went away during the commit, which may have succeeded.")
        self.committed.append(self._num_writes)

    def count(self, write: Callable[[UnitOfWork], Any]) -> Callable[[UnitOfWork], Any]:
        def counted(uow: UnitOfWork) -> Any:
            self._num_writes += 1
            return write(uow)

        return counted

    def run_during_a_commit(self, writes: list[Callable[[Any], Any]]) -> list[Future[Any]]:
        """Start the writes while another one is being committed; returns when all are done."""
        group, may_commit = GroupCommit(self.transaction), threading.Event()
        with ThreadPoolExecutor(len(writes) + 1) as pool:
            pool.submit(group.run, self.count(lambda _: may_commit.wait(60)))
            wait_until(lambda: self.num_begun == 1, timeout_s=60)
            futures = []
            for number, write in enumerate(writes, start=1):
                futures.append(pool.submit(group.run, self.count(write)))
                wait_until(lambda: len(group._pending) == number, timeout_s=60)  # noqa: B023
            may_commit.set()
        return futures


def _return(value: int) -> Callable[[Any], int]:
    return lambda _: value


def _raise(error: Exception) -> Callable[[Any], Any]:
    def write(_: object) -> None:
        raise error

    return write


def _take_turn(queue: WriterQueue, *, timeout_s: float) -> None:
    with queue.turn(timeout_s=timeout_s):
        pass
