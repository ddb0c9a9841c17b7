"""Seconds and bytes of a step, of a batch's loading, of an evaluation."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from configs.protocol.probe import Costs
from configs.spec.run import RunSpec
from workers.data.batches import Batch
from workers.data.loaders import build_validation_loader, unwrap_dataset
from workers.distillation.teacher import Teacher
from workers.evaluation.coco import compute_metrics, evaluate
from workers.probe.builder import StudentFactory, disable_loader_workers
from workers.probe.memory import available_bytes, peak_bytes, reset_peak, student_bytes
from workers.probe.shapes import largest_batch
from workers.training.runner import Runner

_REPEATS = 5
_BUDGET_S = 3.0
"""For the repetitions of one thing; the first of them, and one to warm up, are made in any case."""

_LOADED_BATCHES = 3
_EVALUATED_BATCHES = 2


def measure_costs(
    factory: StudentFactory, spec: RunSpec, *, on_progress: Callable[[], None] = lambda: None
) -> Costs:
    """What steps of a run cost here; its batch in one process, whatever the spec says of several.

    Memory is measured first: what was there before would count.
    """
    device, batch = factory.device, factory.batch(spec)
    reset_peak(device)
    runner = factory.runner(spec)
    for group in runner.optimizer.param_groups:
        group["lr"] = 0.0  # the steps are there to be timed, and not to go astray
    _take_largest_steps(factory, spec, runner)
    base, member = peak_bytes(device), student_bytes(runner)
    on_progress()
    teacher_s = _teacher_s(runner.model.teacher, batch, device)
    on_progress()
    student_s = _student_s(runner, batch, device, teacher_s=teacher_s)
    on_progress()
    return Costs(
        load_s=_load_s(factory, spec),
        teacher_s=teacher_s,
        student_s=student_s,
        evaluation_s=_evaluation_s(factory, spec, runner),
        steps_per_epoch=factory.steps_per_epoch(spec),
        base_bytes=base,
        member_bytes=member,
        available_bytes=available_bytes(device),
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


def _take_largest_steps(factory: StudentFactory, spec: RunSpec, runner: Runner) -> None:
    """Two steps that take as much memory as any will: the batch is the largest, the teacher looks
    at it anew, the optimizer has its state by the second, and that one also looks at the losses.
    """
    batch = largest_batch(factory, spec)
    _take_step(runner, batch, number=1)
    is_taught = runner.model.teacher is not None
    _take_step(
        runner, batch, number=2, looks=is_taught and spec.loss_shares_every_steps is not None
    )


def _take_step(runner: Runner, batch: list[Batch], *, number: int, looks: bool = False) -> None:
    """A step that fp16 leaves out, to try smaller scales first, is taken again."""
    scaler, loss_shares = runner.train_step.scaler, runner.model.loss_shares
    is_taken = False
    while not is_taken:
        scale = scaler.get_scale()
        loss_shares.is_due = looks
        runner.train_step.step([_unseen(part) for part in batch], number=number)
        is_taken = scaler.get_scale() >= scale
    loss_shares.shares = []


def _unseen(part: Batch) -> Batch:
    """Another view of the images, which no teacher remembers."""
    return {**part, "img": part["img"][:]}


def _steps(runner: Runner, batch: list[Batch], *, count: int) -> None:
    for number in range(1, count + 1):
        runner.train_step.step(batch, number=number)


def _teacher_s(teacher: Teacher | None, batch: list[Batch], device: torch.device) -> float:
    if teacher is None:
        return 0.0

    def look() -> None:
        for part in batch:
            teacher.forward(part["img"], batch=_unseen(part)["img"])

    return median_s(look, device=device)


def _student_s(
    runner: Runner, batch: list[Batch], device: torch.device, *, teacher_s: float
) -> float:
    """A step whose teacher remembers what it saw; it remembers one part of a batch."""
    step_s = median_s(lambda: _steps(runner, batch, count=1), device=device)
    teacher = runner.model.teacher
    remembers_all = teacher is None or (teacher.remembers and len(batch) == 1)
    return step_s if remembers_all else max(0.0, step_s - teacher_s)


def _load_s(factory: StudentFactory, spec: RunSpec) -> float:
    batches = iter(factory.loader(spec))
    parts = len(factory.batch(spec))
    count = min(_LOADED_BATCHES, factory.steps_per_epoch(spec))
    cpu = torch.device("cpu")
    return float(
        np.median(
            [_timed_s(lambda: [next(batches) for _ in range(parts)], cpu) for _ in range(count)]
        )
    )


def _evaluation_s(factory: StudentFactory, spec: RunSpec, runner: Runner) -> float:
    """Loading and the student's forward, and COCO's judgement of what the teacher finds.

    A student that has learnt nothing finds nothing, so that there would be nothing to judge.
    """
    whole = _validation(factory, spec, images=spec.evaluation.val_images)
    few = _EVALUATED_BATCHES * spec.evaluation.batch_size
    count = min(few, len(unwrap_dataset(whole)))
    loader = _validation(factory, spec, images=count)
    seconds = _timed_s(
        lambda: evaluate(runner.model, loader, device=factory.device), factory.device
    )
    if runner.model.teacher is not None:
        found = evaluate(runner.model.teacher.detector, loader, device=factory.device)
        seconds += _timed_s(
            lambda: compute_metrics(found.detections, unwrap_dataset(loader)), factory.device
        )
    return seconds * len(unwrap_dataset(whole)) / count


def _validation(factory: StudentFactory, spec: RunSpec, *, images: int | None) -> Any:
    evaluation = spec.evaluation.model_copy(update={"val_images": images})
    asked = disable_loader_workers(spec).model_copy(update={"evaluation": evaluation})
    return build_validation_loader(factory.config(asked), spec=asked)


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
