"""Seconds and bytes of a step, of a batch's loading, of an evaluation."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from configs.protocol.probe import Costs
from configs.spec.run import RunSpec
from workers.data.batches import Batch
from workers.data.loaders import validation_loader, whole_dataset
from workers.distillation.teacher import Teacher
from workers.evaluation.coco import evaluate, score
from workers.probe.builder import Bench, in_this_process
from workers.probe.memory import begin_peak, peak_bytes, room_bytes, student_bytes
from workers.probe.shapes import largest_batch
from workers.training.runner import Runner

_REPEATS = 5
_BUDGET_S = 3.0
"""For the repetitions of one thing; the first of them, and one to warm up, are made in any case."""

_LOADED_BATCHES = 3
_EVALUATED_BATCHES = 2


def measure_costs(
    bench: Bench, spec: RunSpec, *, on_part: Callable[[], None] = lambda: None
) -> Costs:
    """What steps of a run cost here; its batch in one process, whatever the spec says of several.

    Memory is measured first: what was there before would count.
    """
    device, batch = bench.device, bench.batch(spec)
    begin_peak(device)
    runner = bench.runner(spec)
    for group in runner.optimizer.param_groups:
        group["lr"] = 0.0  # the steps are there to be timed, and not to go astray
    _take_largest_steps(bench, spec, runner)
    base, member = peak_bytes(device), student_bytes(runner)
    on_part()
    teacher_s = _teacher_s(runner.model.teacher, batch, device)
    on_part()
    student_s = _student_s(runner, batch, device, teacher_s=teacher_s)
    on_part()
    return Costs(
        load_s=_load_s(bench, spec),
        teacher_s=teacher_s,
        student_s=student_s,
        evaluation_s=_evaluation_s(bench, spec, runner),
        steps_per_epoch=bench.steps_per_epoch(spec),
        base_bytes=base,
        member_bytes=member,
        room_bytes=room_bytes(device),
        device=_name_of(device),
    )


def median_s(work: Callable[[], object], *, device: torch.device) -> float:
    """Seconds of one repetition, after one that is not counted."""
    _timed_s(work, device)
    seconds = [_timed_s(work, device)]
    while len(seconds) < _REPEATS and sum(seconds) < _BUDGET_S:
        seconds.append(_timed_s(work, device))
    return float(np.median(seconds))


def _timed_s(work: Callable[[], object], device: torch.device) -> float:
    _finish(device)
    began_s = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - began_s


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _take_largest_steps(bench: Bench, spec: RunSpec, runner: Runner) -> None:
    """Two steps that take as much memory as any will: the batch is the largest, the teacher looks
    at it anew, the optimizer has its state by the second, and that one also looks at the losses.
    """
    batch = largest_batch(bench, spec)
    _take_step(runner, batch, number=1)
    is_taught = runner.model.teacher is not None
    _take_step(runner, batch, number=2, looks=is_taught and spec.loss_budget_steps is not None)


def _take_step(runner: Runner, batch: list[Batch], *, number: int, looks: bool = False) -> None:
    """A step that fp16 leaves out, to try smaller scales first, is taken again."""
    scaler, budget = runner.stepper.scaler, runner.model.budget
    is_taken = False
    while not is_taken:
        scale = scaler.get_scale()
        budget.is_due = looks
        runner.stepper.step([_unseen(part) for part in batch], number=number)
        is_taken = scaler.get_scale() >= scale
    budget.shares = []


def _unseen(part: Batch) -> Batch:
    """Another view of the images, which no teacher remembers."""
    return {**part, "img": part["img"][:]}


def _steps(runner: Runner, batch: list[Batch], *, count: int) -> None:
    for number in range(1, count + 1):
        runner.stepper.step(batch, number=number)


def _teacher_s(teacher: Teacher | None, batch: list[Batch], device: torch.device) -> float:
    if teacher is None:
        return 0.0

    def look() -> None:
        for part in batch:
            teacher.look(part["img"], batch=_unseen(part)["img"])

    return median_s(look, device=device)


def _student_s(
    runner: Runner, batch: list[Batch], device: torch.device, *, teacher_s: float
) -> float:
    """A step whose teacher remembers what it saw; it remembers one part of a batch."""
    step_s = median_s(lambda: _steps(runner, batch, count=1), device=device)
    teacher = runner.model.teacher
    remembers_all = teacher is None or (teacher.remembers and len(batch) == 1)
    return step_s if remembers_all else max(0.0, step_s - teacher_s)


def _load_s(bench: Bench, spec: RunSpec) -> float:
    batches = iter(bench.loader(spec))
    parts = len(bench.batch(spec))
    count = min(_LOADED_BATCHES, bench.steps_per_epoch(spec))
    cpu = torch.device("cpu")
    return float(
        np.median(
            [_timed_s(lambda: [next(batches) for _ in range(parts)], cpu) for _ in range(count)]
        )
    )


def _evaluation_s(bench: Bench, spec: RunSpec, runner: Runner) -> float:
    """Loading and the student's forward, and COCO's judgement of what the teacher finds.

    A student that has learnt nothing finds nothing, so that there would be nothing to judge.
    """
    whole = _validation(bench, spec, images=spec.evaluation.val_images)
    few = _EVALUATED_BATCHES * spec.evaluation.batch_size
    count = min(few, len(whole_dataset(whole)))
    loader = _validation(bench, spec, images=count)
    seconds = _timed_s(lambda: evaluate(runner.model, loader, device=bench.device), bench.device)
    if runner.model.teacher is not None:
        found = evaluate(runner.model.teacher.detector, loader, device=bench.device)
        seconds += _timed_s(lambda: score(found.detections, whole_dataset(loader)), bench.device)
    return seconds * len(whole_dataset(whole)) / count


def _validation(bench: Bench, spec: RunSpec, *, images: int | None) -> Any:
    evaluation = spec.evaluation.model_copy(update={"val_images": images})
    asked = in_this_process(spec).model_copy(update={"evaluation": evaluation})
    return validation_loader(bench.config(asked), spec=asked)


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
