"""The presets of the published table: their settings, and training steps at a small size."""

import math
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config
from mmcv.runner import build_optimizer
from mmdet.models import build_detector

from configs.catalog import preset_names, spec_from_preset
from configs.spec.detector import MobileNetV2, ResNet, SwinTransformer
from configs.spec.distillation import Bckd, NoDistillation
from configs.spec.references import NamedTeacher, TeacherFiles
from configs.spec.run import RunSpec
from configs.spec.schedule import AdamW, Schedule, Sgd, StepPolicy, Warmup
from configs.teacher_catalog import known_teachers, load_class_list
from tests.support.factories import make_manifest
from tests.support.training.detectors import make_batch
from workers.data.resolve import LocalDataset
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_training_config

COCO = [name for name in preset_names() if name.startswith("coco/")]
DISTILLED_PRESETS = [name for name in COCO if "_from_" in name]
TEACHERS = ["coco/teacher_r101", "coco/teacher_swin_t"]
TABLE = {
    "coco/bckd_r50_from_r101": ("gfl-r101-coco-2x-ms", 50),
    "coco/bckd_r34_from_r101": ("gfl-r101-coco-2x-ms", 34),
    "coco/bckd_r18_from_r101": ("gfl-r101-coco-2x-ms", 18),
    "coco/bckd_mobilenet_v2_from_r101": ("gfl-r101-coco-2x-ms", None),
    "coco/bckd_r50_from_swin_t": ("gfl-swin-t-coco-2x-ms", 50),
}
STEPPED = ("coco/teacher_swin_t", "coco/bckd_r18_from_r101")
"""Presets that take steps in the default tests: a transformer, and a convolutional network."""

CLASSES = load_class_list("coco")
FileOf = Callable[[str], Path]


def find_baseline(name: str) -> str:
    student, _, _teacher = name.removeprefix("coco/bckd_").partition("_from_")
    return f"coco/baseline_{student}"


@pytest.fixture(scope="module")
def make_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileOf]:
    """A weights file for a known teacher, with random weights."""
    folder = tmp_path_factory.mktemp("teachers")

    @cache
    def build_model(name: str) -> Path:
        torch.manual_seed(0)
        config = build_detector_config(known_teachers()[name].detector, classes=CLASSES)
        config.backbone.pop("init_cfg")
        teacher = build_detector(config)
        teacher.init_weights()
        torch.save({"state_dict": teacher.state_dict()}, folder / f"{name}.pth")
        return folder / f"{name}.pth"

    yield build_model
    # Some hundred megabytes, which pytest would keep.
    shutil.rmtree(folder)


def test_presets_cover_the_published_table_with_teachers_and_baselines() -> None:
    assert set(DISTILLED_PRESETS) == set(TABLE)
    assert set(COCO) == {*DISTILLED_PRESETS, *map(find_baseline, DISTILLED_PRESETS), *TEACHERS}


@pytest.mark.parametrize("name", DISTILLED_PRESETS)
def test_a_distilled_preset_differs_from_its_baseline_by_teacher_and_method_only(name: str) -> None:
    without_teacher, distilled = spec_from_preset(find_baseline(name)), spec_from_preset(name)

    assert distilled != without_teacher
    assert (
        distilled.model_copy(update={"teacher": None, "distillation": NoDistillation()})
        == without_teacher
    )


@pytest.mark.parametrize("name", DISTILLED_PRESETS)
def test_a_distilled_student_has_the_papers_teacher_weights_and_backbone(name: str) -> None:
    spec = spec_from_preset(name)

    teacher, depth = TABLE[name]
    assert spec.teacher == NamedTeacher(name=teacher)
    assert spec.distillation == Bckd(cls_weight=1.0, loc_weight=4.0, levels="with_positives")
    assert spec.student.backbone == (
        MobileNetV2(kind="mobilenet_v2", pretrained="imagenet")
        if depth is None
        else ResNet(depth=depth, frozen_stages=1, norm_eval=True, pretrained="imagenet")
    )


@pytest.mark.parametrize("name", [name for name in COCO if name not in TEACHERS])
def test_a_student_has_the_papers_schedule(name: str) -> None:
    spec = spec_from_preset(name)

    assert spec.schedule == Schedule(
        epochs=12,
        optimizer=Sgd(lr=0.01, momentum=0.9, weight_decay=1e-4),
        policy=StepPolicy(milestones=(8, 11)),
        warmup=Warmup(iterations=500, ratio=0.001),
    )
    assert (spec.data.image_size, spec.data.multi_scale) == ((1333, 800), None)
    assert (spec.data.batch_size, spec.data.flip) == (16, 0.5)


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_learns_twice_as_long_at_many_sizes(name: str, tmp_path: Path) -> None:
    spec = spec_from_preset(name)

    config = make_config(spec, tmp_path)

    assert (spec.schedule.epochs, spec.schedule.policy) == (24, StepPolicy(milestones=(16, 22)))
    resize = next(step for step in config.data.train.pipeline if step.type == "Resize")
    assert [tuple(size) for size in resize.img_scale] == [(1333, 480), (1333, 800)]
    assert resize.multiscale_mode == "range"


def test_the_swin_teacher_has_the_optimizer_of_transformers(tmp_path: Path) -> None:
    spec = spec_from_preset("coco/teacher_swin_t")

    assert isinstance(spec.student.backbone, SwinTransformer)
    assert spec.schedule.optimizer == AdamW(lr=1e-4, weight_decay=0.05)
    assert spec.schedule.warmup == Warmup(iterations=1000, ratio=0.001)
    assert make_config(spec, tmp_path).optimizer.paramwise_cfg.norm_decay_mult == 0.0


@pytest.mark.parametrize(
    "name",
    [name if name in STEPPED else pytest.param(name, marks=pytest.mark.slow) for name in COCO],
)
def test_a_preset_takes_real_steps(name: str, make_file: FileOf, tmp_path: Path) -> None:
    spec = spec_from_preset(name)
    config = make_config(spec, tmp_path, make_file=make_file)
    torch.manual_seed(0)
    student = build_detector(config.model)
    student.init_weights()
    optimizer = build_optimizer(student, config.optimizer)
    before = clone_parameters(student)

    losses = [train_step(student.train(), optimizer) for _ in range(2)]

    assert all(math.isfinite(value) for step in losses for value in step.values())
    has_lessons = [name for name in losses[1] if "distill" in name and losses[1][name] > 0]
    assert len(has_lessons) == (2 if name in DISTILLED_PRESETS else 0)
    changed = {
        name for name, tensor in clone_parameters(student).items() if not tensor.equal(before[name])
    }
    for part in (*get_last_stage(spec), "neck.", "bbox_head.gfl_cls.", "bbox_head.gfl_reg."):
        assert any(layer.startswith(part) for layer in changed), part
    if isinstance(spec.student.backbone, ResNet):
        assert not any(
            layer.startswith(("backbone.conv1.", "backbone.layer1.")) for layer in changed
        )


def train_step(student: Any, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Losses of one optimizer step on an image with an object and one without."""
    optimizer.zero_grad()
    outputs = student.train_step(make_batch([[[10.0, 10, 90, 90]], []], size=128), optimizer)
    outputs["loss"].backward()
    optimizer.step()
    return dict(outputs["log_vars"])


def make_config(
    spec: RunSpec, root: Path, *, make_file: FileOf = lambda name: Path(name)
) -> Config:
    """The preset's config without ImageNet weights, which would be downloaded."""
    config = build_training_config(
        resolve_teacher_files(spec, make_file),
        dataset=LocalDataset(root, make_manifest(classes=CLASSES)),
        run_dir=root,
    )
    config.model.backbone.pop("init_cfg")
    return config


def resolve_teacher_files(spec: RunSpec, make_file: FileOf) -> RunSpec:
    """The spec as the service passes it to a worker."""
    if not isinstance(spec.teacher, NamedTeacher):
        return spec
    name = spec.teacher.name
    files = TeacherFiles(
        checkpoint=str(make_file(name)), detector=known_teachers()[name].detector, classes=CLASSES
    )
    return spec.model_copy(update={"teacher": files})


def clone_parameters(student: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in student.named_parameters()}


def get_last_stage(spec: RunSpec) -> tuple[str, ...]:
    kind = spec.student.backbone.kind
    return {
        "resnet": ("backbone.layer4.",),
        "mobilenet_v2": ("backbone.layer1.", "backbone.layer7."),
        "swin": ("backbone.stages.0.", "backbone.stages.3."),
    }[kind]
