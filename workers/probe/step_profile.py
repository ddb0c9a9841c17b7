"""Where the time of a training step goes, by part, and its trace for a viewer."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from configs.spec.run import RunSpec
from workers.probe.builder import StudentFactory
from workers.training.runner import Runner

_WARM_UP_STEPS = 1
"""The first step allocates the optimizer's state and chooses kernels."""


@dataclass(frozen=True)
class StepPart:
    """One part of a step: its median time in milliseconds, and its share of the step."""

    name: str
    ms: float
    share: float


@dataclass(frozen=True)
class StepProfile:
    """A step by part. `load_ms` is not in the step: loader workers prepare batches meanwhile."""

    step_ms: float
    parts: list[StepPart]
    load_ms: float
    operators: int
    """Calls of torch's operators in one step, with those that operators call."""


class _PartTimer:
    """Measures how long the functions that it wraps take, each without those inside of it.

    It waits for the device before and after each part, so that a part has the time of its kernels.
    The sum is therefore longer than a step that queues them ahead.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._open: list[float] = []
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of this block to the part with this name."""
        start_s = self._now_s()
        self._open.append(0.0)
        with record_function(name):
            try:
                yield
            finally:
                duration_s = self._now_s() - start_s
                inner_s = self._open.pop()
                self.seconds[name] = self.seconds.get(name, 0.0) + duration_s - inner_s
                if self._open:
                    self._open[-1] += duration_s

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as a part with this name."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call

    def _now_s(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def profile_step(
    factory: StudentFactory, spec: RunSpec, *, steps: int, trace: Path | None = None
) -> StepProfile:
    """Train `steps` steps on the first batch and measure their parts; the weights are not kept.

    `trace` is a file for the trace of one more step, in the format of chrome://tracing and
    Perfetto.
    """
    load_s = _measure_load_s(factory, spec)
    batch = factory.batch(spec)
    runner = factory.runner(spec)
    timer = _PartTimer(factory.device)
    numbers = count(1)

    def run_step() -> None:
        with timer.part("backward"):  # what is left of the step when all other parts are taken out
            runner.train_step.step(batch, number=next(numbers))

    for _ in range(_WARM_UP_STEPS):
        run_step()
    _wrap_parts(runner, timer)
    rounds = []
    for _ in range(steps):
        timer.seconds.clear()
        run_step()
        rounds.append(dict(timer.seconds))
    operators = _trace_step(run_step, trace, device=factory.device)
    return _summarize(rounds, load_s=load_s, operators=operators)


def _wrap_parts(runner: Runner, timer: _PartTimer) -> None:
    model, train_step = runner.model, runner.train_step
    parts: list[tuple[Any, str, str]] = [
        (model, "extract_feat", "student: backbone and pyramid"),
        (model.bbox_head, "forward", "student: head"),
        (model.bbox_head, "loss", "detection losses"),
        (model, "train_step", "sum of losses"),
        (train_step, "_update", "norm and update"),
    ]
    # Heads without a method for the whole batch assign labels as mmdet does.
    assign = "assign_labels" if hasattr(model.bbox_head, "assign_labels") else "get_targets"
    parts.append((model.bbox_head, assign, "label assignment"))
    if model.teacher is not None:
        parts += [
            (model.teacher, "forward", "teacher"),
            (model, "_compute_terms", "distillation losses"),
        ]
    for owner, attribute, name in parts:
        setattr(owner, attribute, timer.wrap(name, getattr(owner, attribute)))


def _measure_load_s(factory: StudentFactory, spec: RunSpec) -> float:
    """Seconds for a batch in one process, after the first, which opens the files."""
    batches = iter(factory.loader(spec))
    next(batches)
    start_s = time.perf_counter()
    next(batches, None)
    return time.perf_counter() - start_s


def _trace_step(run_step: Callable[[], None], trace: Path | None, *, device: torch.device) -> int:
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        run_step()
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    return sum(event.count for event in profiler.key_averages() if event.key.startswith("aten::"))


def _summarize(rounds: list[dict[str, float]], *, load_s: float, operators: int) -> StepProfile:
    step_s = median(sum(parts.values()) for parts in rounds)
    medians = {name: median(parts[name] for parts in rounds) for name in rounds[0]}
    parts = [StepPart(name, 1e3 * part_s, part_s / step_s) for name, part_s in medians.items()]
    return StepProfile(
        step_ms=1e3 * step_s,
        parts=sorted(parts, key=lambda part: -part.ms),
        load_ms=1e3 * load_s,
        operators=operators,
    )
