"""The training loop: one pipeline of batches, and one student or several that learn from them.

Students side by side take turns on each batch. Whatever a turn draws follows from seed, step and
process, and is drawn anew for each turn, so each student becomes what it would have become alone.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from workers.data.batches import Batch, HostBatch, prefetch_to_device
from workers.training.runner import Runner

TurnGuard = Callable[[int, int], AbstractContextManager[None]]
"""`guard(index, beside)` goes around a student's turn: its place among all that there were, and how
many others trained when the round began. It may swallow an error, and the student is out then."""

EvictStudent = Callable[[Exception, int], int]
"""`make_room(error, beside)` follows a batch that could not be made ready, which is nobody's turn.
It puts one student out and returns its index, for the batch to be tried again; or it raises."""


def _make_no_room(error: Exception, _beside: int) -> int:
    raise error


class TrainLoop:
    """Drives runners of the same seed, data and length over one loader.

    Those that were interrupted at different steps begin with the earliest; a later one looks on
    until its step has come. Nothing here refers to a student that is out.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        loader: Any,
        *,
        device: torch.device,
        guard: TurnGuard = lambda _index, _beside: nullcontext(),
        evict: EvictStudent = _make_no_room,
        on_student_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_departure` is called when a student is out and its memory can be given back."""
        self._going = dict(enumerate(runners))
        self._loader = loader
        self._order = loader.batch_sampler
        self._device = device
        self._guard = guard
        self._make_room = evict
        self._on_departure = on_student_end
        self._stream: Iterator[list[Batch]] = iter(())

    def run(self) -> None:
        """Train until nobody is left: every student has had its last epoch, or is out."""
        begin = partial(Runner.begin, steps_per_epoch=self._order.steps)
        self._round(list(self._going), begin)
        self._let_go()
        while self._going:
            self._epoch(min(runner.epoch for runner in self._going.values()))
            self._stream = iter(())
            self._let_go()

    def _epoch(self, epoch: int) -> None:
        first_steps = {
            index: runner.iter - epoch * self._order.steps
            for index, runner in self._going.items()
            if runner.epoch == epoch
        }
        self._loader.dataset.set_epoch(epoch)
        self._begin_stream(epoch, min(first_steps.values()))
        for step in range(min(first_steps.values()), self._order.steps):
            beside = len(self._going) - 1
            batch = self._batch_of(epoch, step, beside=beside)
            if not first_steps.keys() & self._going.keys():
                return
            for index, first in first_steps.items():
                if step == first:
                    begin = partial(Runner.begin_epoch, loader=self._loader)
                    self._turn(index, begin, beside=beside)
                if step >= first:
                    self._turn(index, partial(Runner.run_iter, micro_batches=batch), beside=beside)
            del batch
        self._round(first_steps, Runner.end_epoch)

    def _begin_stream(self, epoch: int, step: int) -> None:
        self._order.begin(epoch, step=step)
        self._stream = self._batches()

    def _batch_of(self, epoch: int, step: int, *, beside: int) -> list[Batch]:
        """The next batch; nothing, if nobody is left to learn from it."""
        while self._going:
            try:
                return next(self._stream)
            except Exception as error:
                failure = error
            index = self._make_room(failure, beside)
            del failure  # what it refers to is to be free when room is made
            self._depart(index)
            self._begin_stream(epoch, step)
        return []

    def _batches(self) -> Iterator[list[Batch]]:
        """In parts, on the device: of one tensor a shared teacher makes something once."""
        return prefetch_to_device(self._host_batches(), self._device)

    def _host_batches(self) -> Iterator[list[HostBatch]]:
        pieces = iter(self._loader)
        while parts := list(itertools.islice(pieces, self._order.share.parts)):
            yield parts

    def _let_go(self) -> None:
        done = [index for index, runner in self._going.items() if runner.is_done]
        self._round(done, Runner.end)
        for index in done:
            if index in self._going:
                self._depart(index)

    def _round(self, indices: Iterable[int], act: Callable[[Runner], None]) -> None:
        beside = len(self._going) - 1
        for index in indices:
            self._turn(index, act, beside=beside)

    def _turn(self, index: int, act: Callable[[Runner], None], *, beside: int) -> None:
        if index not in self._going:
            return
        is_through = False
        with self._guard(index, beside):
            act(self._going[index])
            is_through = True
        if not is_through:
            self._depart(index)

    def _depart(self, index: int) -> None:
        del self._going[index]
        self._on_departure()
