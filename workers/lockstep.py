"""The training loop: one pipeline of batches, and one student or several that learn from them.

Students side by side take turns on each batch. Whatever a turn draws follows from seed, step and
process, and is drawn anew for each turn, so each student becomes what it would have become alone.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from workers.batches import Batch, HostBatch, place_ahead
from workers.runner import Runner

Guard = Callable[[Runner], AbstractContextManager[None]]
"""What goes around a student's turn. It may swallow an error, and the student is out then."""


class Lockstep:
    """Drives runners of the same seed, data and length over one loader.

    Those that were interrupted at different steps begin with the earliest; a later one looks on
    until its step has come.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        loader: Any,
        *,
        device: torch.device,
        guard: Guard = lambda _: nullcontext(),
    ) -> None:
        self._going = list(runners)
        self._loader = loader
        self._order = loader.batch_sampler
        self._device = device
        self._guard = guard

    def go(self) -> None:
        """Train until nobody is left: every student has had its last epoch, or is out."""
        for runner in list(self._going):
            self._turn(runner, partial(Runner.begin, steps_per_epoch=self._order.steps))
        self._let_go()
        while self._going:
            self._epoch(min(runner.epoch for runner in self._going))
            self._let_go()

    def _epoch(self, epoch: int) -> None:
        here = [runner for runner in self._going if runner.epoch == epoch]
        first = {runner: runner.iter - epoch * self._order.steps for runner in here}
        self._loader.dataset.set_epoch(epoch)
        self._order.begin(epoch, step=min(first.values()))
        batches = self._batches()
        for step in range(min(first.values()), self._order.steps):
            if not any(runner in self._going for runner in here):
                return
            batch = next(batches)
            for runner in self._still(here):
                if step == first[runner]:
                    self._turn(runner, partial(Runner.begin_epoch, loader=self._loader))
                if step >= first[runner]:
                    self._turn(runner, partial(Runner.take, parts=batch))
        for runner in self._still(here):
            self._turn(runner, Runner.end_epoch)

    def _batches(self) -> Iterator[list[Batch]]:
        """In parts, on the device: of one tensor a shared teacher makes something once."""
        return place_ahead(self._host_batches(), self._device)

    def _host_batches(self) -> Iterator[list[HostBatch]]:
        pieces = iter(self._loader)
        while parts := list(itertools.islice(pieces, self._order.share.parts)):
            yield parts

    def _still(self, runners: Sequence[Runner]) -> Iterator[Runner]:
        return (runner for runner in runners if runner in self._going)

    def _let_go(self) -> None:
        for runner in [runner for runner in self._going if runner.is_done]:
            self._turn(runner, Runner.end)
            if runner in self._going:
                self._going.remove(runner)

    def _turn(self, runner: Runner, act: Callable[[Runner], None]) -> None:
        if runner not in self._going:
            return
        is_through = False
        with self._guard(runner):
            act(runner)
            is_through = True
        if not is_through:
            self._going.remove(runner)
