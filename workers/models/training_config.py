"""Translates a `RunSpec` into the mmcv `Config` of mmdet."""

from pathlib import Path
from typing import Any

from mmcv import Config, ConfigDict

from configs.spec.base import TeacherControl
from configs.spec.dataset import ClassNames, Split
from configs.spec.detector import Detector
from configs.spec.distillation import NoDistillation
from configs.spec.references import TeacherFiles
from configs.spec.run import RunSpec
from configs.spec.schedule import AdamW, CosinePolicy, Schedule
from workers.data.resolve import LocalDataset
from workers.models.detector_config import (
    build_detector_config,
    get_normalization,
    get_padding,
    load_template,
)


def build_training_config(spec: RunSpec, *, dataset: LocalDataset, run_dir: Path) -> Config:
    """Build the complete config of a training run, for mmcv's runner and mmdet's builders."""
    config = load_template(spec.student.head.kind)
    config.model = build_student_config(spec, classes=dataset.manifest.classes)
    config.data = build_training_data_config(spec, dataset=dataset)
    config.optimizer = _build_optimizer_config(spec)
    config.optimizer_config = {"grad_clip": _build_grad_clip(spec.schedule)}
    config.lr_config = _build_lr_config(spec.schedule)
    config.runner.max_epochs = spec.schedule.epochs
    config.seed = spec.seed
    config.work_dir = str(run_dir)
    # For mmdet's own tools, which import our classes only if the config names their modules.
    config.custom_imports = {
        "imports": ["workers.distillation.detector", "workers.models.efficientnet_lite"]
    }
    return config


def build_student_config(spec: RunSpec, *, classes: ClassNames) -> ConfigDict:
    """Build the config of `TandemDetector`: the student, with its teacher if it is distilled."""
    limit = spec.evaluation.max_detections
    student = build_detector_config(spec.student, classes=classes, max_detections=limit)
    student["type"] = "TandemDetector"
    student["bbox_head"]["type"] = f"Tandem{student['bbox_head']['type']}"
    student["compute"] = spec.compute.model_dump()
    if isinstance(spec.distillation, NoDistillation) or not isinstance(spec.teacher, TeacherFiles):
        return student
    teacher = _select_teacher(spec.teacher, spec.control)
    student["teacher"] = {
        "config": build_detector_config(
            teacher.detector, classes=teacher.classes, max_detections=limit
        ),
        "checkpoint": None if spec.control == "random_teacher" else teacher.checkpoint,
        "sha256": teacher.sha256,
        "columns": select_teacher_columns(spec, classes=classes),
        "inherit": list(spec.student.inherit),
    }
    if spec.data.unlabelled is not None:
        student["teacher"]["unlabelled"] = True
    if spec.control == "shuffled_teacher":
        student["teacher"]["shuffle"] = True
    student["distillation"] = spec.distillation.model_dump()
    return student


def _select_teacher(teacher: TeacherFiles, control: TeacherControl | None) -> TeacherFiles:
    """The teacher itself, or for an untrained one its architecture without any weights."""
    if control != "random_teacher":
        return teacher
    backbone = teacher.detector.backbone.model_copy(update={"pretrained": None})
    detector = teacher.detector.model_copy(update={"backbone": backbone})
    return teacher.model_copy(update={"detector": detector, "sha256": None})


def select_teacher_columns(spec: RunSpec, *, classes: ClassNames) -> list[int] | None:
    """Indices of the student's classes among the teacher's; None if both have the same classes.

    The service refuses a spec with a class that the teacher lacks; its index would be -1.
    """
    if spec.teacher_classes == "same" or not isinstance(spec.teacher, TeacherFiles):
        return None
    columns = {name: column for column, name in enumerate(spec.teacher.classes)}
    return [columns.get(name, -1) for name in classes]


def build_data_config(
    detector: Detector, *, dataset: LocalDataset, image_size: tuple[int, int]
) -> dict[str, Any]:
    """Build the config of mmdet's datasets, with the preprocessing that `detector` expects."""
    data: dict[str, Any] = load_template(detector.head.kind)._cfg_dict.data.to_dict()
    manifest = dataset.manifest
    for name, split in (("train", manifest.train), ("val", manifest.val), ("test", manifest.val)):
        data[name] |= _build_files_config(split, dataset=dataset)
        _fill_in_pipeline(data[name]["pipeline"], detector, image_size=image_size)
    return data


def build_inference_pipeline(
    detector: Detector, *, image_size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Build the preprocessing pipeline of `detector`, starting with loading from a file."""
    data: dict[str, Any] = load_template(detector.head.kind)._cfg_dict.data.to_dict()
    pipeline: list[dict[str, Any]] = data["test"]["pipeline"]
    _fill_in_pipeline(pipeline, detector, image_size=image_size)
    return pipeline


def build_training_data_config(spec: RunSpec, *, dataset: LocalDataset) -> ConfigDict:
    """Build the data section of a run's config, which its loaders need."""
    data = build_data_config(spec.student, dataset=dataset, image_size=spec.data.image_size)
    _, _, resize, flip, *_ = data["train"]["pipeline"]
    flip["flip_ratio"] = spec.data.flip
    if spec.data.multi_scale is not None:
        longest = spec.data.image_size[0]
        resize["img_scale"] = [(longest, shortest) for shortest in spec.data.multi_scale]
        resize["multiscale_mode"] = "range"
    data["samples_per_gpu"] = spec.data.batch_size
    data["workers_per_gpu"] = spec.data.num_workers
    if spec.data.unlabelled is not None:
        assert dataset.unlabelled is not None, "resolve_run_dataset opens it"
        data["unlabelled"] = _build_unlabelled_config(data["train"], images=dataset.unlabelled)
    return ConfigDict(data)


def _build_unlabelled_config(train: dict[str, Any], *, images: LocalDataset) -> dict[str, Any]:
    """The config of the training images, with other files and without reading annotations."""
    pipeline = [dict(step) for step in train["pipeline"] if step["type"] != "LoadAnnotations"]
    pipeline[-1]["keys"] = ["img"]
    files = _build_files_config(images.manifest.train, dataset=images)
    return {**train, **files, "pipeline": pipeline}


def _fill_in_pipeline(
    pipeline: list[dict[str, Any]], detector: Detector, *, image_size: tuple[int, int]
) -> None:
    padding = get_padding(detector)
    for step in _iter_steps(pipeline):
        if step["type"] in ("Resize", "MultiScaleFlipAug") and "img_scale" in step:
            step["img_scale"] = image_size
        if step["type"] == "Normalize":
            step |= get_normalization(detector)
        if step["type"] == "Pad" and padding:  # a single number would be that of the first channel
            step["pad_val"] = {"img": (padding, padding, padding)}
        if step["type"] == "DefaultFormatBundle" and padding:  # for batches
            step["pad_val"] = {"img": padding}


def _iter_steps(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All steps of a pipeline, with those that are nested in another step."""
    return [*pipeline, *(inner for step in pipeline for inner in step.get("transforms", ()))]


def _build_files_config(split: Split, *, dataset: LocalDataset) -> dict[str, Any]:
    return {
        "ann_file": str(dataset.root / split.annotations),
        "img_prefix": str(dataset.root / split.images),
        "classes": list(dataset.manifest.classes),
    }


def _build_optimizer_config(spec: RunSpec) -> dict[str, Any]:
    optimizer = spec.schedule.optimizer
    scale = spec.data.batch_size / (spec.schedule.lr_for_batch_size or spec.data.batch_size)
    if isinstance(optimizer, AdamW):
        return {
            "type": "AdamW",
            "lr": optimizer.lr * scale,
            "weight_decay": optimizer.weight_decay,
            "paramwise_cfg": {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0},
        }
    return {
        "type": "SGD",
        "lr": optimizer.lr * scale,
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
    }


def _build_grad_clip(schedule: Schedule) -> dict[str, float] | None:
    if schedule.max_grad_norm is None:
        return None
    return {"max_norm": schedule.max_grad_norm, "norm_type": 2}


def _build_lr_config(schedule: Schedule) -> dict[str, Any]:
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
