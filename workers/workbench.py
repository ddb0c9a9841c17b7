"""Builds what training needs from a config: model, optimizer, runner, loaders and hooks."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from mmcv import Config
from mmcv.parallel import MMDataParallel
from mmcv.runner import EpochBasedRunner, build_optimizer
from mmdet.models import build_detector
from torch.utils.data import DataLoader

from configs.spec import ClassNames, RunFile, RunSpec
from workers.checkpoints import load_checkpoint
from workers.errors import InvalidSpec
from workers.hooks.checkpoints import CheckpointsHook
from workers.hooks.control import ControlHook, Termination
from workers.hooks.evaluation import EvaluationHook
from workers.hooks.metrics import MetricsHook
from workers.hooks.order import OrderHook, seed_everything
from workers.hooks.progress import ProgressHook
from workers.loading import training_loader, validation_loader
from workers.reporting.reporter import Reporter

METRIC_INTERVAL_STEPS = 10
PROGRESS_INTERVAL_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workbench:
    """A run that can begin: `runner` drives, the rest is asked afterwards."""

    runner: EpochBasedRunner
    training: DataLoader[Any]
    validation: DataLoader[Any]
    checkpoints: CheckpointsHook
    evaluation: EvaluationHook
    device: torch.device


def prepare_device(spec: RunSpec) -> torch.device:
    """The device of this attempt, with as many threads as it was given; deterministic kernels."""
    torch.set_num_threads(spec.resources.num_cpus)
    cv2.setNumThreads(0)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if spec.resources.num_gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InvalidSpec(
            "resources.num_gpus is 1 but this process sees no GPU; say 0, or ask `tandem doctor`."
        )
    return torch.device("cuda", torch.cuda.current_device())


def build_workbench(
    config: Config,
    *,
    spec: RunSpec,
    run_dir: Path,
    reporter: Reporter,
    termination: Termination,
) -> Workbench:
    """Everything ready to run, resumed if the run's folder has a last checkpoint."""
    device = prepare_device(spec)
    training, validation = training_loader(config, spec=spec), validation_loader(config, spec=spec)
    classes: ClassNames = tuple(validation.dataset.CLASSES)  # type: ignore[attr-defined]
    runner = build_runner(config, spec=spec, device=device, classes=classes)
    checkpoints = CheckpointsHook(run_dir, spec=spec, classes=classes)
    evaluation = EvaluationHook(
        reporter,
        loader=validation,
        checkpoints=checkpoints,
        every_epochs=spec.evaluation.every_epochs,
        termination=termination,
    )
    runner.register_lr_hook(config.lr_config)
    runner.register_optimizer_hook(config.optimizer_config)
    runner.register_hook(OrderHook(seed=spec.seed), priority="HIGHEST")
    runner.register_hook(ControlHook(reporter, termination=termination), priority="VERY_HIGH")
    runner.register_hook(
        MetricsHook(reporter, interval_steps=METRIC_INTERVAL_STEPS), priority="NORMAL"
    )
    runner.register_hook(ProgressHook(reporter, interval_s=PROGRESS_INTERVAL_S), priority="NORMAL")
    runner.register_hook(evaluation, priority="LOW")
    runner.register_hook(checkpoints, priority="VERY_LOW")
    resume(runner, checkpoints, run_dir / RunFile.LAST)
    return Workbench(runner, training, validation, checkpoints, evaluation, device)


def build_runner(
    config: Config, *, spec: RunSpec, device: torch.device, classes: ClassNames
) -> EpochBasedRunner:
    """mmcv's runner around the student on its device; initial weights follow from the seed."""
    seed_everything(spec.seed, epoch=0)
    model = build_detector(config.model)
    model.init_weights()
    model.CLASSES = classes
    model = model.to(device)
    ids = [device.index] if device.type == "cuda" else [-1]
    optimizer = build_optimizer(model, config.optimizer)
    return EpochBasedRunner(
        model=MMDataParallel(model, device_ids=ids),
        optimizer=optimizer,
        logger=logging.getLogger("mmcv"),
        max_epochs=spec.schedule.epochs,
    )


def resume(runner: EpochBasedRunner, checkpoints: CheckpointsHook, path: Path) -> None:
    """Go on after the last whole epoch; without a checkpoint, begin."""
    if not path.exists():
        return
    checkpoint = load_checkpoint(path)
    runner.model.module.load_state_dict(checkpoint["state_dict"], strict=True)
    runner.optimizer.load_state_dict(checkpoint["optimizer"])
    runner._epoch = checkpoint["meta"]["epoch"]
    runner._iter = checkpoint["meta"]["iter"]
    checkpoints.restore(checkpoint["meta"])
    log.info("Resumed after epoch %d, step %d.", runner.epoch, runner.iter)
