"""Time and memory of a training step, of loading a batch and of an evaluation."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from configs.protocol.probe import Costs
from configs.spec.active_methods import moving_weights
from configs.spec.jobs import Timing
from configs.spec.run import RunSpec
from configs.spec.weights import WeightShare
from workers.data.batches import Batch
from workers.data.loaders import build_validation_loader, unwrap_dataset
from workers.data.unlabelled import UNLABELLED
from workers.distillation.methods.registry import resolve_methods
from workers.distillation.teacher import Teacher
from workers.evaluation.coco import CocoMetrics, compute_metrics, evaluate
from workers.evaluation.timing import measure_latency
from workers.probe.builder import StudentFactory, disable_loader_workers
from workers.probe.memory import available_bytes, peak_bytes, reset_peak, student_bytes
from workers.probe.shapes import largest_batch
from workers.training.runner import Runner

_REPEATS = 5
_MAX_TIME_S = 3.0
"""Time limit for the repetitions of one measurement, after the warm-up and the first one."""

_LOADED_BATCHES = 3
_EVALUATED_BATCHES = 2
_LATENCY = Timing(images=9, warm_up=2)


def measure_costs(
    factory: StudentFactory, spec: RunSpec, *, on_progress: Callable[[], None] = lambda: None
) -> Costs:
    """Measure what the steps of a run cost on this device, in one process.

    Memory is measured first: the peak would include tensors of earlier measurements.
    """
    device, batch = factory.device, factory.batch(spec)
    reset_peak(device)
    runner = factory.runner(spec)
    for group in runner.optimizer.param_groups:
        group["lr"] = 0.0  # keeps the timed steps from diverging
    _run_largest_steps(factory, spec, runner)
    base_bytes, member_bytes = peak_bytes(device), student_bytes(runner)
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
        base_bytes=base_bytes,
        member_bytes=member_bytes,
        available_bytes=available_bytes(device),
        latency_s=_latency_s(factory, spec, runner, on_image=on_progress),
        device=_device_name(device),
    )


def median_s(function: Callable[[], object], *, device: torch.device) -> float:
    """Median duration of a call in seconds, after one call to warm up."""
    _time_s(function, device)
    seconds = [_time_s(function, device)]
    while len(seconds) < _REPEATS and sum(seconds) < _MAX_TIME_S:
        seconds.append(_time_s(function, device))
    return float(np.median(seconds))


def _time_s(function: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start_s = time.perf_counter()
    function()
    _synchronize(device)
    return time.perf_counter() - start_s


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _run_largest_steps(factory: StudentFactory, spec: RunSpec, runner: Runner) -> None:
    """Run two steps with the largest possible memory.

    They use the largest batch and do not hit the teacher's cache. In the second step the optimizer
    has its state, and loss shares and gradient norms are measured if the run does so.
    """
    batch = largest_batch(factory, spec)
    _run_step(runner, batch, number=1)
    is_distilled = runner.model.teacher is not None
    measures_shares = is_distilled and spec.loss_shares_every_steps is not None
    norms = runner.model.gradient_norms
    weights = moving_weights(resolve_methods(spec.distillation))
    norms.is_due = any(isinstance(weight, WeightShare) for weight in weights.values())
    _run_step(runner, batch, number=2, measures_shares=measures_shares)
    if norms.is_due:
        norms.take()


def _run_step(
    runner: Runner, batch: list[Batch], *, number: int, measures_shares: bool = False
) -> None:
    """Run a step; repeat it while fp16 skips it to reduce the loss scale."""
    scaler, meter = runner.train_step.scaler, runner.model.loss_shares
    is_applied = False
    while not is_applied:
        scale = scaler.get_scale()
        meter.is_due = measures_shares
        runner.train_step.step([_copy_view(micro_batch) for micro_batch in batch], number=number)
        is_applied = scaler.get_scale() >= scale
    meter.shares = []


def _copy_view(micro_batch: Batch) -> Batch:
    """Copy the batch with new views of the images, which are not in any teacher's cache."""
    copy = {**micro_batch, "img": micro_batch["img"][:]}
    return copy | ({UNLABELLED: _copy_view(copy[UNLABELLED])} if UNLABELLED in copy else {})


def _run_steps(runner: Runner, batch: list[Batch], *, count: int) -> None:
    for number in range(1, count + 1):
        runner.train_step.step(batch, number=number)


def _teacher_s(teacher: Teacher | None, batch: list[Batch], device: torch.device) -> float:
    if teacher is None:
        return 0.0

    images_by_batch = [
        part["img"]
        for micro_batch in batch
        for part in (micro_batch, micro_batch.get(UNLABELLED))
        if part is not None
    ]

    def forward() -> None:
        for images in images_by_batch:
            teacher.forward(images, batch=images[:])

    return median_s(forward, device=device)


def _student_s(
    runner: Runner, batch: list[Batch], device: torch.device, *, teacher_s: float
) -> float:
    """Seconds of a step without the teacher's forward pass.

    A teacher caches its outputs for one micro-batch, so with several its time is subtracted.
    """
    step_s = median_s(lambda: _run_steps(runner, batch, count=1), device=device)
    teacher = runner.model.teacher
    is_cached = teacher is None or (teacher.caches_outputs and len(batch) == 1)
    return step_s if is_cached else max(0.0, step_s - teacher_s)


def _load_s(factory: StudentFactory, spec: RunSpec) -> float:
    batches = iter(factory.loader(spec))
    micro_batches = len(factory.batch(spec))
    count = min(_LOADED_BATCHES, factory.steps_per_epoch(spec))
    cpu = torch.device("cpu")
    return float(
        np.median(
            [
                _time_s(lambda: [next(batches) for _ in range(micro_batches)], cpu)
                for _ in range(count)
            ]
        )
    )


def _evaluation_s(factory: StudentFactory, spec: RunSpec, runner: Runner) -> float:
    """Estimate the seconds of an evaluation from a few batches.

    COCO's evaluation is timed on the teacher's detections, as an untrained student detects nothing.
    """
    full_loader = _validation_loader(factory, spec, images=spec.evaluation.val_images)
    max_images = _EVALUATED_BATCHES * spec.evaluation.batch_size
    count = count_evaluated_images(unwrap_dataset(full_loader), max_images)
    loader = _validation_loader(factory, spec, images=count)
    limit = spec.evaluation.max_detections

    def run(detector: Any) -> CocoMetrics:
        return evaluate(detector, loader, device=factory.device, max_detections=limit)

    seconds = _time_s(lambda: run(runner.model), factory.device)
    if runner.model.teacher is not None:
        detections, dataset = run(runner.model.teacher.detector).detections, unwrap_dataset(loader)
        seconds += _time_s(
            lambda: compute_metrics(detections, dataset, max_detections=limit), factory.device
        )
    return seconds * len(unwrap_dataset(full_loader)) / count


def _latency_s(
    factory: StudentFactory, spec: RunSpec, runner: Runner, *, on_image: Callable[[], None]
) -> float:
    """Median seconds of single validation images, as the model's own evaluation counts them.

    The student is untrained: its scores are low, so fewer boxes reach NMS than after training.
    """
    evaluation = spec.evaluation.model_copy(update={"batch_size": 1})
    single = spec.model_copy(update={"evaluation": evaluation})
    loader = _validation_loader(factory, single, images=_LATENCY.warm_up + _LATENCY.images)
    runner.model.eval()
    latency = measure_latency(
        runner.model, loader, _LATENCY, device=factory.device, on_image=on_image
    )
    runner.model.train()
    return latency.p50_ms / 1000.0


def count_evaluated_images(dataset: Any, enough: int) -> int:
    """The number of images to evaluate: `enough`, or more until one has an object for mAP."""
    with_objects = (i for i in range(len(dataset)) if len(dataset.get_ann_info(i)["bboxes"]))
    return min(max(enough, next(with_objects, 0) + 1), len(dataset))


def _validation_loader(factory: StudentFactory, spec: RunSpec, *, images: int | None) -> Any:
    evaluation = spec.evaluation.model_copy(update={"val_images": images})
    limited_spec = disable_loader_workers(spec).model_copy(update={"evaluation": evaluation})
    return build_validation_loader(factory.config(limited_spec).data, spec=limited_spec)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
