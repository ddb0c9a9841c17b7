"""The training loop: turns of students, evictions and released references."""

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


class SimulatedTrainStep:
    """Records the batches that it gets; runs out of memory at step `fails_at`."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.seen: list[int] = []

    def step(self, micro_batches: list[dict[str, Any]], *, number: int) -> dict[str, Any]:
        activations = torch.zeros(3)
        if number == self.fails_at:
            raise torch.OutOfMemoryError(f"CUDA out of memory beside {activations.numel()}.")
        self.seen.append(int(micro_batches[0]["number"]))
        return {"log_vars": {}, "num_samples": 1}


class SimulatedRunner(Runner):
    """A runner without a config: a model of one weight, and no hooks."""

    def __init__(self, train_step: SimulatedTrainStep, *, epochs: int = 1) -> None:
        self.train_step: Any = train_step
        self.ema = None
        self.model = torch.nn.Linear(1, 1)
        self._epoch = self._iter = 0
        self._max_epochs = epochs
        self._hooks: list[Any] = []


class SimulatedSampler:
    """Implements the part of `GroupedBatchSampler` that the loop uses."""

    steps_per_epoch = STEPS

    def __init__(self) -> None:
        self.shard = SimpleNamespace(num_micro_batches=1)
        self.positions: list[tuple[int, int]] = []

    def set_position(self, epoch: int, *, step: int) -> None:
        self.positions.append((epoch, step))


class SimulatedLoader:
    """Yields numbered batches; `at2=error` raises `error` once instead of batch 2."""

    def __init__(self, **failures: Exception) -> None:
        self.batch_sampler = SimulatedSampler()
        self.dataset = self
        self._failures = {int(key.removeprefix("at")): error for key, error in failures.items()}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        _, first = self.batch_sampler.positions[-1]
        for number in range(first, STEPS):
            if (failure := self._failures.pop(number, None)) is not None:
                raise failure
            yield {"number": torch.tensor(number)}


def suppressing(num_others_seen: list[int]) -> TurnGuard:
    """Suppresses out-of-memory errors, and records how many other students there were."""

    @contextmanager
    def guard(_index: int, num_others: int) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            num_others_seen.append(num_others)

    return guard


def make_loop(
    runners: list[SimulatedRunner], loader: SimulatedLoader | None = None, **options: Any
) -> TrainLoop:
    return TrainLoop(runners, loader or SimulatedLoader(), device=torch.device("cpu"), **options)


def test_no_reference_to_a_student_remains_when_its_memory_is_released() -> None:
    runners = [
        SimulatedRunner(SimulatedTrainStep(fails_at=2)),
        SimulatedRunner(SimulatedTrainStep()),
    ]
    first, model = weakref.ref(runners[0]), weakref.ref(runners[0].model)
    alive: list[tuple[bool, bool]] = []

    def note() -> None:
        alive.append((first() is not None, model() is not None))

    loop = make_loop(runners, guard=suppressing([]), on_student_end=note)
    del runners
    loop.run()

    assert alive[0] == (False, False)


def test_students_that_fail_in_the_same_step_count_each_other() -> None:
    num_others_seen: list[int] = []
    runners = [SimulatedRunner(SimulatedTrainStep(fails_at=2)) for _ in range(3)]

    make_loop(runners, guard=suppressing(num_others_seen)).run()

    assert num_others_seen == [2, 2, 2]


def test_a_student_that_fails_a_step_later_has_no_others() -> None:
    num_others_seen: list[int] = []
    runners = [SimulatedRunner(SimulatedTrainStep(fails_at=step)) for step in (2, 3)]

    make_loop(runners, guard=suppressing(num_others_seen)).run()

    assert num_others_seen == [1, 0]


def test_a_batch_without_memory_is_prepared_again_after_an_eviction() -> None:
    train_steps = [SimulatedTrainStep() for _ in range(3)]
    loader = SimulatedLoader(at2=OOM)
    evictions: list[tuple[Exception, int]] = []

    def evict_last(error: Exception, num_others: int) -> int:
        evictions.append((error, num_others))
        return 2

    make_loop([SimulatedRunner(step) for step in train_steps], loader, evict=evict_last).run()

    assert evictions == [(OOM, 2)]
    assert loader.batch_sampler.positions == [(0, 0), (0, 2)]
    assert [step.seen for step in train_steps] == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]


def test_num_others_is_that_of_the_step_if_a_batch_fails_twice() -> None:
    loader = SimulatedLoader(at1=OOM)
    indices = iter((1, 0))
    num_others_seen: list[int] = []

    def evict_and_fail_again(_error: Exception, num_others: int) -> int:
        num_others_seen.append(num_others)
        if not num_others_seen[1:]:
            loader._failures[1] = OOM
        return next(indices)

    runners = [SimulatedRunner(SimulatedTrainStep()) for _ in range(2)]
    make_loop(runners, loader, evict=evict_and_fail_again).run()

    assert num_others_seen == [1, 1]


@pytest.mark.parametrize("evict", [None, lambda error, _: _raise(error)])
def test_an_error_that_no_eviction_solves_is_raised(evict: Callable[..., int] | None) -> None:
    options = {} if evict is None else {"evict": evict}
    runners = [SimulatedRunner(SimulatedTrainStep()) for _ in range(2)]

    with pytest.raises(torch.OutOfMemoryError):
        make_loop(runners, SimulatedLoader(at2=OOM), **options).run()


def test_a_student_that_resumes_later_skips_batches_until_its_step() -> None:
    early, late = SimulatedTrainStep(), SimulatedTrainStep()
    runners = [SimulatedRunner(early), SimulatedRunner(late)]
    runners[1].resume_from(epoch=0, step=3)

    make_loop(runners).run()

    assert early.seen == [0, 1, 2, 3]
    assert late.seen == [3]


def _raise(error: Exception) -> int:
    raise error
