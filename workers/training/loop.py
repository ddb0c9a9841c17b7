"""The training loop: one stream of batches, from which one student or several learn.

The students of a pack take turns on each batch. The random state of a turn follows from seed, step
and rank, and is set again for each turn, so each student becomes what it would become alone.
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
"""`guard(index, num_others)` surrounds each turn of a student. `index` is the student's position in
the list of runners; `num_others` is how many other students were training when the step started.
If it suppresses an error, the student leaves the loop."""

EvictStudent = Callable[[Exception, int], int]
"""`evict(error, num_others)` is called when the next batch cannot be prepared, which is outside of
any student's turn. It either ends one student and returns its index, and the batch is prepared
again; or it raises."""


def _reraise(error: Exception, _num_others: int) -> int:
    raise error


class TrainLoop:
    """Drives runners of the same seed, data and length over one loader.

    Runners that resume at different steps start at the earliest of these steps; the others skip
    batches until they reach their own. The loop keeps no reference to a student that has left.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        loader: Any,
        *,
        device: torch.device,
        guard: TurnGuard = lambda _index, _num_others: nullcontext(),
        evict: EvictStudent = _reraise,
        on_student_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_student_end` is called after a student has left, when its memory can be released."""
        self._active = dict(enumerate(runners))
        self._loader = loader
        self._sampler = loader.batch_sampler
        self._device = device
        self._guard = guard
        self._evict = evict
        self._on_student_end = on_student_end
        self._batches: Iterator[list[Batch]] = iter(())

    def run(self) -> None:
        """Train until every student has finished its last epoch or has left."""
        begin = partial(Runner.begin, steps_per_epoch=self._sampler.steps_per_epoch)
        self._run_each(list(self._active), begin)
        self._end_finished()
        while self._active:
            self._run_epoch(min(runner.epoch for runner in self._active.values()))
            self._batches = iter(())
            self._end_finished()

    def _run_epoch(self, epoch: int) -> None:
        first_steps = {
            index: runner.iter - epoch * self._sampler.steps_per_epoch
            for index, runner in self._active.items()
            if runner.epoch == epoch
        }
        self._loader.dataset.set_epoch(epoch)
        self._start_batches(epoch, min(first_steps.values()))
        for step in range(min(first_steps.values()), self._sampler.steps_per_epoch):
            num_others = len(self._active) - 1
            micro_batches = self._next_batch(epoch, step, num_others=num_others)
            if not first_steps.keys() & self._active.keys():
                return
            for index, first_step in first_steps.items():
                if step == first_step:
                    begin_epoch = partial(Runner.begin_epoch, loader=self._loader)
                    self._run_turn(index, begin_epoch, num_others=num_others)
                if step >= first_step:
                    self._run_turn(
                        index,
                        partial(Runner.run_iter, micro_batches=micro_batches),
                        num_others=num_others,
                    )
            del micro_batches
        self._run_each(first_steps, Runner.end_epoch)

    def _start_batches(self, epoch: int, step: int) -> None:
        self._sampler.set_position(epoch, step=step)
        self._batches = self._iter_device_batches()

    def _next_batch(self, epoch: int, step: int, *, num_others: int) -> list[Batch]:
        """The micro-batches of the next batch; an empty list if every student has left."""
        while self._active:
            try:
                return next(self._batches)
            except Exception as error:
                failure = error
            index = self._evict(failure, num_others)
            del failure  # its traceback refers to tensors that must be freed before the next try
            self._remove(index)
            self._start_batches(epoch, step)
        return []

    def _iter_device_batches(self) -> Iterator[list[Batch]]:
        """Batches on the device, one copy for all students: a shared teacher caches by tensor."""
        return prefetch_to_device(self._iter_host_batches(), self._device)

    def _iter_host_batches(self) -> Iterator[list[HostBatch]]:
        loaded = iter(self._loader)
        num_micro_batches = self._sampler.shard.num_micro_batches
        while micro_batches := list(itertools.islice(loaded, num_micro_batches)):
            yield micro_batches

    def _end_finished(self) -> None:
        finished = [index for index, runner in self._active.items() if runner.is_done]
        self._run_each(finished, Runner.end)
        for index in finished:
            if index in self._active:
                self._remove(index)

    def _run_each(self, indices: Iterable[int], act: Callable[[Runner], None]) -> None:
        num_others = len(self._active) - 1
        for index in indices:
            self._run_turn(index, act, num_others=num_others)

    def _run_turn(self, index: int, act: Callable[[Runner], None], *, num_others: int) -> None:
        if index not in self._active:
            return
        is_completed = False
        with self._guard(index, num_others):
            act(self._active[index])
            is_completed = True
        if not is_completed:
            self._remove(index)

    def _remove(self, index: int) -> None:
        del self._active[index]
        self._on_student_end()
