"""The loop over students: who has a turn, what is retried, and what is let go of."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from workers.training.loop import TrainLoop, TurnGuard
from workers.training.runner import Runner

STEPS = 4
OOM = torch.OutOfMemoryError("CUDA out of memory.")


class SimulatedStepper:
    """Notes the batches it is given; fails where it is told to."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.seen: list[int] = []

    def step(self, parts: list[dict[str, Any]], *, number: int) -> dict[str, Any]:
        activations = torch.zeros(3)
        if number == self.fails_at:
            raise torch.OutOfMemoryError(f"CUDA out of memory beside {activations.numel()}.")
        self.seen.append(int(parts[0]["number"]))
        return {"log_vars": {}, "num_samples": 1}


class SimulatedRunner(Runner):
    """A runner without a config: a model of one weight, and no hooks."""

    def __init__(self, train_step: SimulatedStepper, *, epochs: int = 1) -> None:
        self.train_step: Any = train_step
        self.model = torch.nn.Linear(1, 1)
        self._epoch = self._iter = 0
        self._max_epochs = epochs
        self._hooks: list[Any] = []


class SimulatedOrder:
    """Implements what the loop asks of a batch sampler."""

    steps = STEPS

    def __init__(self) -> None:
        self.share = SimpleNamespace(parts=1)
        self.begun: list[tuple[int, int]] = []

    def begin(self, epoch: int, *, step: int) -> None:
        self.begun.append((epoch, step))


class SimulatedLoader:
    """Batches that are numbered; `failures` by the batch before which they come, once each."""

    def __init__(self, **failures: Exception) -> None:
        self.batch_sampler = SimulatedOrder()
        self.dataset = self
        self._failures = {int(key.removeprefix("at")): error for key, error in failures.items()}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        _, first = self.batch_sampler.begun[-1]
        for number in range(first, STEPS):
            if (failure := self._failures.pop(number, None)) is not None:
                raise failure
            yield {"number": torch.tensor(number)}


def swallowing(besides: list[int]) -> TurnGuard:
    """Ends a student by what it raises, and notes how many others there were."""

    @contextmanager
    def guard(_index: int, beside: int) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            besides.append(beside)

    return guard


def lockstep(
    runners: list[SimulatedRunner], loader: SimulatedLoader | None = None, **options: Any
) -> TrainLoop:
    return TrainLoop(runners, loader or SimulatedLoader(), device=torch.device("cpu"), **options)


def test_a_student_that_is_out_is_gone_when_its_memory_is_to_be_given_back() -> None:
    runners = [SimulatedRunner(SimulatedStepper(fails_at=2)), SimulatedRunner(SimulatedStepper())]
    first, model = weakref.ref(runners[0]), weakref.ref(runners[0].model)
    alive: list[tuple[bool, bool]] = []

    def note() -> None:
        alive.append((first() is not None, model() is not None))

    loop = lockstep(runners, guard=swallowing([]), on_departure=note)
    del runners
    loop.run()

    assert alive[0] == (False, False)


def test_students_that_fail_in_one_step_all_had_the_others_beside_them() -> None:
    besides: list[int] = []
    runners = [SimulatedRunner(SimulatedStepper(fails_at=2)) for _ in range(3)]

    lockstep(runners, guard=swallowing(besides)).run()

    assert besides == [2, 2, 2]


def test_a_student_that_fails_a_step_later_is_alone() -> None:
    besides: list[int] = []
    runners = [SimulatedRunner(SimulatedStepper(fails_at=step)) for step in (2, 3)]

    lockstep(runners, guard=swallowing(besides)).run()

    assert besides == [1, 0]


def test_a_batch_that_found_no_memory_is_made_again_for_those_who_stay() -> None:
    steppers = [SimulatedStepper() for _ in range(3)]
    loader = SimulatedLoader(at2=OOM)
    asked: list[tuple[Exception, int]] = []

    def last_leaves(error: Exception, beside: int) -> int:
        asked.append((error, beside))
        return 2

    lockstep([SimulatedRunner(one) for one in steppers], loader, make_room=last_leaves).run()

    assert asked == [(OOM, 2)]
    assert loader.batch_sampler.begun == [(0, 0), (0, 2)]
    assert [one.seen for one in steppers] == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]


def test_the_number_beside_is_that_of_the_step_also_when_a_batch_fails_twice() -> None:
    loader = SimulatedLoader(at1=OOM)
    leaving = iter((1, 0))
    besides: list[int] = []

    def fails_again(_error: Exception, beside: int) -> int:
        besides.append(beside)
        if not besides[1:]:
            loader._failures[1] = OOM
        return next(leaving)

    runners = [SimulatedRunner(SimulatedStepper()) for _ in range(2)]
    lockstep(runners, loader, make_room=fails_again).run()

    assert besides == [1, 1]


@pytest.mark.parametrize("make_room", [None, lambda error, _: _raise(error)])
def test_what_nobody_makes_room_for_is_raised(make_room: Callable[..., int] | None) -> None:
    options = {} if make_room is None else {"make_room": make_room}
    runners = [SimulatedRunner(SimulatedStepper()) for _ in range(2)]

    with pytest.raises(torch.OutOfMemoryError):
        lockstep(runners, SimulatedLoader(at2=OOM), **options).run()


def test_a_student_that_joins_later_looks_on_until_its_step_has_come() -> None:
    early, late = SimulatedStepper(), SimulatedStepper()
    runners = [SimulatedRunner(early), SimulatedRunner(late)]
    runners[1].go_on_from(epoch=0, step=3)

    lockstep(runners).run()

    assert early.seen == [0, 1, 2, 3]
    assert late.seen == [3]


def _raise(error: Exception) -> int:
    raise error
