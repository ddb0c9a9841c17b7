"""What mmdet is told: a `RunSpec` as an mmcv `Config`. The only file that knows mmdet's keys."""

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from mmcv import Config, ConfigDict

from configs.spec import (
    AdamW,
    Bckd,
    ClassNames,
    CosinePolicy,
    DatasetManifest,
    Detector,
    GflHead,
    ResNet,
    RunSpec,
    Schedule,
    Split,
    TeacherFiles,
)

_BASE_CHANNELS = 64
_STAGES = 4
_BOTTLENECK_EXPANSION = 4
_PUBLISHED_GROUPS = 32


@dataclass(frozen=True)
class DatasetPlace:
    """A dataset and the folder it lies in."""

    root: Path
    manifest: DatasetManifest


def config_from_spec(spec: RunSpec, *, dataset: DatasetPlace, run_dir: Path) -> Config:
    """The whole configuration of a training run, ready for mmcv's runner and mmdet's builders."""
    config = _template()
    classes = dataset.manifest.classes
    config.model = student_config(spec, classes=classes)
    config.data = _data_config(spec, dataset=dataset, template=config)
    config.optimizer = _optimizer_config(spec.schedule)
    config.optimizer_config = {"grad_clip": _grad_clip(spec.schedule)}
    config.lr_config = _lr_config(spec.schedule)
    config.runner.max_epochs = spec.schedule.epochs
    config.seed = spec.seed
    config.work_dir = str(run_dir)
    if "teacher" in config.model:
        # For mmdet's own tools, which know our classes only if the config names their modules.
        config.custom_imports = {"imports": ["workers.distillation.detector"]}
    return config


def student_config(spec: RunSpec, *, classes: ClassNames) -> ConfigDict:
    """The model that learns: a plain detector, or one with a teacher beside it."""
    student = detector_config(spec.student, classes=classes)
    if not isinstance(spec.distillation, Bckd) or not isinstance(spec.teacher, TeacherFiles):
        return student
    student["type"] = "TandemGFL"
    student["bbox_head"]["type"] = "TandemGFLHead"
    student["teacher"] = {
        "config": detector_config(spec.teacher.detector, classes=spec.teacher.classes),
        "checkpoint": spec.teacher.checkpoint,
        "sha256": spec.teacher.sha256,
    }
    student["distillation"] = {
        "cls_weight": spec.distillation.cls_weight,
        "loc_weight": spec.distillation.loc_weight,
        "levels": spec.distillation.levels,
    }
    return student


def detector_config(detector: Detector, *, classes: ClassNames) -> ConfigDict:
    """One plain mmdet GFL detector; its weights come later, but for ImageNet backbones."""
    model: dict[str, Any] = _template()._cfg_dict.model.to_dict()
    model["backbone"] |= _backbone_config(detector.backbone)
    model["neck"]["in_channels"] = _stage_channels(detector.backbone)
    model["neck"]["out_channels"] = detector.neck.channels
    model["bbox_head"] |= {
        "num_classes": len(classes),
        "in_channels": detector.neck.channels,
        "stacked_convs": detector.head.convs,
        "feat_channels": detector.head.channels,
        "reg_max": detector.head.reg_max,
        "norm_cfg": {"type": "GN", "num_groups": _groups(detector.head), "requires_grad": True},
    }
    return ConfigDict(model)


def _groups(head: GflHead) -> int:
    """GroupNorm's groups: 32 as published, fewer where a group would be a single channel.

    One channel at one position (the coarsest level of a small image) has nothing to normalise by.
    """
    return min(_PUBLISHED_GROUPS, head.channels // 2)


def _template() -> Config:
    with as_file(files("configs").joinpath("mmdet")) as folder:
        return Config.fromfile(str(folder / "gfl.py"))


def _backbone_config(backbone: ResNet) -> dict[str, Any]:
    config: dict[str, Any] = {
        "depth": backbone.depth,
        "base_channels": round(_BASE_CHANNELS * backbone.width),
        "frozen_stages": backbone.frozen_stages,
        "norm_eval": backbone.norm_eval,
    }
    if backbone.pretrained is not None:
        checkpoint = f"torchvision://resnet{backbone.depth}"
        config["init_cfg"] = {"type": "Pretrained", "checkpoint": checkpoint}
    return config


def _stage_channels(backbone: ResNet) -> list[int]:
    first = round(_BASE_CHANNELS * backbone.width)
    expansion = _BOTTLENECK_EXPANSION if backbone.depth >= 50 else 1
    return [first * expansion * 2**stage for stage in range(_STAGES)]


def _data_config(spec: RunSpec, *, dataset: DatasetPlace, template: Config) -> dict[str, Any]:
    data: dict[str, Any] = template._cfg_dict.data.to_dict()
    manifest = dataset.manifest
    for name, split in (("train", manifest.train), ("val", manifest.val), ("test", manifest.val)):
        data[name] |= _files_of(split, dataset=dataset)
    _, _, resize, flip, *_ = data["train"]["pipeline"]
    resize["img_scale"] = spec.data.image_size
    flip["flip_ratio"] = spec.data.flip
    for name in ("val", "test"):
        data[name]["pipeline"][1]["img_scale"] = spec.data.image_size
    data["samples_per_gpu"] = spec.data.batch_size
    data["workers_per_gpu"] = spec.data.loader_workers
    return data


def _files_of(split: Split, *, dataset: DatasetPlace) -> dict[str, Any]:
    return {
        "ann_file": str(dataset.root / split.annotations),
        "img_prefix": str(dataset.root / split.images),
        "classes": list(dataset.manifest.classes),
    }


def _optimizer_config(schedule: Schedule) -> dict[str, Any]:
    optimizer = schedule.optimizer
    if isinstance(optimizer, AdamW):
        return {
            "type": "AdamW",
            "lr": optimizer.lr,
            "weight_decay": optimizer.weight_decay,
            "paramwise_cfg": {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0},
        }
    return {
        "type": "SGD",
        "lr": optimizer.lr,
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
    }


def _grad_clip(schedule: Schedule) -> dict[str, float] | None:
    if schedule.max_grad_norm is None:
        return None
    return {"max_norm": schedule.max_grad_norm, "norm_type": 2}


def _lr_config(schedule: Schedule) -> dict[str, Any]:
    policy = schedule.policy
    if isinstance(policy, CosinePolicy):
        config: dict[str, Any] = {
            "policy": "CosineAnnealing",
            "min_lr_ratio": policy.min_lr_ratio,
            "by_epoch": False,
        }
    else:
        config = {"policy": "step", "step": list(policy.milestones), "gamma": policy.gamma}
    if schedule.warmup is not None:
        config |= {
            "warmup": "linear",
            "warmup_iters": schedule.warmup.iterations,
            "warmup_ratio": schedule.warmup.ratio,
        }
    return config
