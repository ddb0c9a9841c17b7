"""Builds model, optimizer, runner, loaders and hooks from a spec."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from mmcv import Config
from mmcv.runner import build_optimizer
from mmdet.core.hook import SetEpochInfoHook
from mmdet.models import build_detector
from torch import nn
from torch.utils.data import DataLoader

# These two register the classes that configs name.
import workers.distillation.detector
import workers.training.optimizers  # noqa: F401
from configs.spec.active_methods import moving_weights
from configs.spec.dataset import ClassNames
from configs.spec.run import RunSpec
from workers import distributed
from workers.attempt.stop import Termination
from workers.checkpoints.store import CheckpointStore
from workers.data.image_hashes import check_no_validation_images
from workers.data.loaders import (
    batch_shard,
    build_training_loader,
    build_validation_loader,
    check_num_images,
    unwrap_dataset,
)
from workers.data.resolve import LocalDataset
from workers.distillation.methods.registry import resolve_methods
from workers.distillation.weights import MovingWeights
from workers.errors import InvalidSpec
from workers.evaluation.coco import list_objects
from workers.models.training_config import build_training_config, build_training_data_config
from workers.process.device import prepare_device
from workers.telemetry.protocol import Reporter
from workers.training.ema import ModelEma
from workers.training.hooks.checkpoints import CheckpointsHook, StatefulHook
from workers.training.hooks.evaluation import EvaluationHook
from workers.training.hooks.loss_shares import LossSharesHook
from workers.training.hooks.metrics import MetricsHook
from workers.training.hooks.progress import ProgressHook
from workers.training.hooks.seeding import StepSeedHook, seed_all
from workers.training.hooks.stop import StopHook
from workers.training.hooks.weights import WeightsHook
from workers.training.method_releases import check_releases
from workers.training.resume import resume_runner, run_identity
from workers.training.runner import Runner
from workers.training.step import TrainStep

METRIC_INTERVAL_STEPS = 10
PROGRESS_INTERVAL_S = 1.0


@dataclass(frozen=True)
class TrainingSetup:
    """The objects of one run that is ready to train."""

    runner: Runner
    config: Config
    validation: Any
    checkpoints: CheckpointsHook
    evaluation: EvaluationHook
    device: torch.device

    @property
    def model(self) -> Any:
        """The student without DDP's wrapper; its teacher, if any, is an attribute of it."""
        return distributed.unwrap_ddp(self.runner.model)


@dataclass(frozen=True)
class SharedInputs:
    """The device and the images, which all students of a pack share."""

    device: torch.device
    dataset: LocalDataset
    training: DataLoader[Any]
    validation: Any
    """A `DataLoader` of validation images, or something that yields the same batches."""


def build_shared_inputs(
    spec: RunSpec,
    *,
    dataset: LocalDataset,
    assigned_device: torch.device | None = None,
) -> SharedInputs:
    """Prepare the device and the loaders of a run, or of all runs of its pack.

    `assigned_device` is the device that the cluster assigned to this process, if it is one of
    several.
    """
    device = prepare_device(spec.resources, spec.compute, assigned=assigned_device)
    data = build_training_data_config(spec, dataset=dataset)
    training = build_training_loader(data, spec=spec)
    validation = build_validation_loader(data, spec=spec)
    for loader, split, limit in (
        (training, dataset.manifest.train, spec.data.train_images),
        (validation, dataset.manifest.val, spec.evaluation.val_images),
    ):
        check_num_images(unwrap_dataset(loader), split, limit=limit)
    _check_unlabelled(training, dataset)
    list_objects(unwrap_dataset(validation))
    return SharedInputs(device, dataset, training, validation)


def _check_unlabelled(training: DataLoader[Any], dataset: LocalDataset) -> None:
    """Raise an error if images without labels are missing, or are validation images, too."""
    if dataset.unlabelled is None:
        return
    images: Any = training.dataset
    check_num_images(images.unlabelled, dataset.unlabelled.manifest.train, limit=None)
    check_no_validation_images(dataset)


def build_training_setup(
    spec: RunSpec,
    inputs: SharedInputs,
    *,
    run_dir: Path,
    reporter: Reporter,
    termination: Termination,
) -> TrainingSetup:
    """Build a run's model, optimizer and hooks, and resume from its newest checkpoint, if any."""
    device, manifest = inputs.device, inputs.dataset.manifest
    config = build_training_config(spec, dataset=inputs.dataset, run_dir=run_dir)
    runner = build_runner(config, spec=spec, device=device, classes=manifest.classes)
    teacher = distributed.unwrap_ddp(runner.model).teacher
    identity = _identify(spec, inputs.dataset, teacher_sha256=teacher.sha256 if teacher else None)
    stateful_hooks = _build_stateful_hooks(spec, inputs, reporter=reporter)
    store = CheckpointStore(
        run_dir,
        spec.checkpoints,
        notify=reporter.report_note,
        check_superseded=reporter.check_superseded,
    )
    checkpoints = CheckpointsHook(
        store,
        policy=spec.checkpoints,
        identity=identity,
        classes=manifest.classes,
        stateful_hooks=stateful_hooks,
    )
    progress = ProgressHook(reporter, interval_s=PROGRESS_INTERVAL_S)
    evaluation = EvaluationHook(
        reporter,
        loader=inputs.validation,
        checkpoints=checkpoints,
        evaluation=spec.evaluation,
        progress=progress,
        termination=termination,
    )
    runner.register_lr_hook(config.lr_config)
    runner.register_hook(StepSeedHook(seed=spec.seed), priority="HIGHEST")
    if spec.loss_shares_every_steps is not None and teacher is not None:
        runner.register_hook(LossSharesHook(reporter, every_steps=spec.loss_shares_every_steps))
    for hook in stateful_hooks.values():
        runner.register_hook(hook, priority="NORMAL")
    runner.register_hook(progress, priority="NORMAL")
    runner.register_hook(evaluation, priority="LOW")
    runner.register_hook(checkpoints, priority="VERY_LOW")
    stop = StopHook(reporter, termination=termination, checkpoints=checkpoints, device=device)
    runner.register_hook(stop, priority="LOWEST")
    if (newest := store.load_newest()) is not None:
        for note in check_releases(run_dir, resolve_methods(spec.distillation).values()):
            reporter.report_note(note)
        resume_runner(runner, newest, identity=identity)
        checkpoints.load_state_dict(newest["meta"]["memory"])
        if runner.iter:
            reporter.report_note(f"Resumed after epoch {runner.epoch}, step {runner.iter}.")
    return TrainingSetup(runner, config, inputs.validation, checkpoints, evaluation, device)


def _identify(
    spec: RunSpec, dataset: LocalDataset, *, teacher_sha256: str | None
) -> dict[str, Any]:
    images = None if spec.data.unlabelled is None else dataset.unlabelled
    return run_identity(
        spec,
        dataset=dataset.manifest,
        teacher_sha256=teacher_sha256,
        unlabelled=None if images is None else images.manifest,
    )


def _build_stateful_hooks(
    spec: RunSpec, inputs: SharedInputs, *, reporter: Reporter
) -> dict[str, StatefulHook]:
    """The hooks whose state is part of a checkpoint, in the order in which they run."""
    methods = resolve_methods(spec.distillation)
    if not moving_weights(methods):
        return {"metrics": MetricsHook(reporter, interval_steps=METRIC_INTERVAL_STEPS)}
    sampler: Any = inputs.training.batch_sampler
    moving = MovingWeights(
        methods, epochs=spec.schedule.epochs, steps_per_epoch=sampler.steps_per_epoch
    )
    if unmeasured := moving.find_unmeasured_shares():
        raise InvalidSpec(
            f"{unmeasured[0]}.every_steps is {moving.shares[unmeasured[0]].every_steps}, but its "
            "term ends before so many steps, so its share would never be measured; lower it."
        )
    weights = WeightsHook(reporter, moving)
    metrics = MetricsHook(
        reporter, interval_steps=METRIC_INTERVAL_STEPS, read_values=lambda: weights.metrics
    )
    return {"weights": weights, "metrics": metrics}


def build_runner(
    config: Config, *, spec: RunSpec, device: torch.device, classes: ClassNames
) -> Runner:
    """Build the student, its optimizer and its runner; the initial weights follow from the seed."""
    seed_all(spec.seed, 0)
    model = build_detector(config.model)
    _init_weights(model)
    model.CLASSES = classes
    model.bbox_head.micro_batches = batch_shard(spec).num_micro_batches
    model = _move_to_device(model, spec=spec, device=device)
    optimizer = build_optimizer(model, config.optimizer)
    model = distributed.wrap_ddp(model)
    train_step = TrainStep(
        model,
        optimizer,
        device=device,
        precision=spec.compute.precision,
        max_grad_norm=spec.schedule.max_grad_norm,
    )
    average = spec.schedule.ema
    runner = Runner(
        train_step=train_step,
        ema=None if average is None else ModelEma(distributed.unwrap_ddp(model), average),
        model=model,
        optimizer=optimizer,
        logger=logging.getLogger("mmcv"),
        max_epochs=spec.schedule.epochs,
    )
    runner.register_hook(SetEpochInfoHook())
    return runner


def _init_weights(model: Any) -> None:
    """Initialize the weights; ImageNet's are downloaded unless they are cached."""
    try:
        model.init_weights()
    except URLError as error:
        raise InvalidSpec(
            f"The ImageNet weights of the backbone cannot be downloaded ({error.reason}). Put the "
            f"file into {Path(torch.hub.get_dir()) / 'checkpoints'}, or set "
            "student.backbone.pretrained=null."
        ) from error


def _move_to_device(model: nn.Module, *, spec: RunSpec, device: torch.device) -> nn.Module:
    if spec.compute.sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if spec.compute.channels_last:
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)
