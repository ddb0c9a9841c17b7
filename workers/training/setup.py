"""Builds what training needs from a config: model, optimizer, runner, loaders and hooks."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from mmcv import Config
from mmcv.runner import build_optimizer
from mmdet.models import build_detector
from torch import nn
from torch.utils.data import DataLoader

import workers.distillation.detector  # noqa: F401  registers what configs name
from configs.spec.dataset import ClassNames
from configs.spec.run import RunSpec
from workers import distributed
from workers.attempt.stop import Termination
from workers.checkpoints.store import CheckpointStore
from workers.data.loaders import batch_shard, build_training_loader, build_validation_loader
from workers.data.resolve import LocalDataset
from workers.errors import InvalidSpec
from workers.models.training_config import build_training_config
from workers.process.device import prepare_device
from workers.telemetry.protocol import Reporter
from workers.training.hooks.checkpoints import CheckpointsHook
from workers.training.hooks.evaluation import EvaluationHook
from workers.training.hooks.loss_budget import LossSharesHook
from workers.training.hooks.metrics import MetricsHook
from workers.training.hooks.progress import ProgressHook
from workers.training.hooks.seeding import StepSeedHook, seed_everything
from workers.training.hooks.stop import StopHook
from workers.training.resume import resume_runner, run_identity
from workers.training.runner import Runner
from workers.training.step import TrainStep

METRIC_INTERVAL_STEPS = 10
PROGRESS_INTERVAL_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSetup:
    """A run that can begin: `runner` drives, the rest is asked afterwards."""

    runner: Runner
    config: Config
    validation: Any
    checkpoints: CheckpointsHook
    evaluation: EvaluationHook
    device: torch.device

    @property
    def model(self) -> Any:
        """The student, with its teacher if it has one."""
        return distributed.unwrap_ddp(self.runner.model)


@dataclass(frozen=True)
class SharedInputs:
    """What students that train side by side share: a device, and the images."""

    device: torch.device
    dataset: LocalDataset
    training: DataLoader[Any]
    validation: Any
    """Batches of validation images, as a `DataLoader` gives them."""


def build_shared_inputs(
    spec: RunSpec,
    *,
    dataset: LocalDataset,
    run_dir: Path,
    assigned_device: torch.device | None = None,
) -> SharedInputs:
    """The device and the images of a run, or of those that train beside it.

    `assigned` is the device that the cluster gave this process, where it is one of several.
    """
    device = prepare_device(spec.resources, spec.compute, assigned=assigned_device)
    config = build_training_config(spec, dataset=dataset, run_dir=run_dir)
    training, validation = (
        build_training_loader(config, spec=spec),
        build_validation_loader(config, spec=spec),
    )
    return SharedInputs(device, dataset, training, validation)


def build_training_setup(
    spec: RunSpec,
    room: SharedInputs,
    *,
    run_dir: Path,
    reporter: Reporter,
    termination: Termination,
) -> TrainingSetup:
    """Everything ready to run, resumed if the run's folder has a checkpoint."""
    device, manifest = room.device, room.dataset.manifest
    config = build_training_config(spec, dataset=room.dataset, run_dir=run_dir)
    runner = build_runner(config, spec=spec, device=device, classes=manifest.classes)
    teacher = distributed.unwrap_ddp(runner.model).teacher
    identity = run_identity(
        spec, dataset=manifest, teacher_sha256=None if teacher is None else teacher.sha256
    )
    metrics = MetricsHook(reporter, interval_steps=METRIC_INTERVAL_STEPS)
    store = CheckpointStore(run_dir, spec.checkpoints, notify=reporter.report_note)
    checkpoints = CheckpointsHook(
        store,
        policy=spec.checkpoints,
        identity=identity,
        classes=manifest.classes,
        stateful_hooks={"metrics": metrics},
    )
    progress = ProgressHook(reporter, interval_s=PROGRESS_INTERVAL_S)
    evaluation = EvaluationHook(
        reporter,
        loader=room.validation,
        checkpoints=checkpoints,
        every_epochs=spec.evaluation.every_epochs,
        progress=progress,
        termination=termination,
    )
    runner.register_lr_hook(config.lr_config)
    runner.register_hook(StepSeedHook(seed=spec.seed), priority="HIGHEST")
    if spec.loss_shares_every_steps is not None and teacher is not None:
        runner.register_hook(LossSharesHook(reporter, every_steps=spec.loss_shares_every_steps))
    runner.register_hook(metrics, priority="NORMAL")
    runner.register_hook(progress, priority="NORMAL")
    runner.register_hook(evaluation, priority="LOW")
    runner.register_hook(checkpoints, priority="VERY_LOW")
    control = StopHook(reporter, termination=termination, checkpoints=checkpoints, device=device)
    runner.register_hook(control, priority="LOWEST")
    if (newest := store.load_newest()) is not None:
        resume_runner(runner, newest, identity=identity)
        checkpoints.recall(newest["meta"]["memory"])
        if runner.iter:
            reporter.report_note(f"Goes on after epoch {runner.epoch}, step {runner.iter}.")
    return TrainingSetup(runner, config, room.validation, checkpoints, evaluation, device)


def build_runner(
    config: Config, *, spec: RunSpec, device: torch.device, classes: ClassNames
) -> Runner:
    """mmcv's runner around the student on its device; initial weights follow from the seed."""
    seed_everything(spec.seed, 0)
    model = build_detector(config.model)
    _begin(model)
    model.CLASSES = classes
    model.bbox_head.micro_batches = batch_shard(spec).micro_batches
    model = _placed(model, spec=spec, device=device)
    optimizer = build_optimizer(model, config.optimizer)
    model = distributed.wrap_ddp(model)
    train_step = TrainStep(
        model,
        optimizer,
        device=device,
        precision=spec.compute.precision,
        max_grad_norm=spec.schedule.max_grad_norm,
    )
    return Runner(
        train_step=train_step,
        model=model,
        optimizer=optimizer,
        logger=logging.getLogger("mmcv"),
        max_epochs=spec.schedule.epochs,
    )


def _begin(model: Any) -> None:
    """First weights; ImageNet's come over the network unless they are cached."""
    try:
        model.init_weights()
    except URLError as error:
        raise InvalidSpec(
            f"The ImageNet weights of the backbone cannot be downloaded ({error.reason}). Put the "
            f"file into {Path(torch.hub.get_dir()) / 'checkpoints'}, or say "
            "student.backbone.pretrained=null."
        ) from error


def _placed(model: nn.Module, *, spec: RunSpec, device: torch.device) -> nn.Module:
    if spec.compute.sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if spec.compute.channels_last:
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)
