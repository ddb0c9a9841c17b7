"""The mmdet config of a spec: every field has the value of the spec."""

from pathlib import Path
from typing import Any

import mmdet
import pytest
from mmcv import Config

from configs.catalog import parse_spec
from configs.spec.detector import Detector, GflHead, Neck, ResNet, Student
from configs.spec.distillation import Bckd
from configs.spec.references import TeacherFiles
from tests.support.factories import CLASSES, make_bckd_spec, make_manifest, make_spec
from workers.data.resolve import LocalDataset
from workers.models.detector_config import build_detector_config
from workers.models.training_config import build_training_config

DATASET = LocalDataset(Path("/data/pets"), make_manifest())


def make_config(**changes: Any) -> Config:
    return build_training_config(
        parse_spec(make_spec(**changes)), dataset=DATASET, run_dir=Path("/runs/r")
    )


def test_files_classes_and_sizes_are_those_of_spec_and_dataset() -> None:
    data = make_config(
        data={"dataset": {"name": "pets"}, "image_size": [320, 160], "flip": 0.25}
    ).data

    assert data.train.ann_file == "/data/pets/annotations/train.json"
    assert data.val.img_prefix == "/data/pets/images/val"
    assert tuple(data.train.classes) == CLASSES
    assert data.train.pipeline[2].img_scale == (320, 160)
    assert data.train.pipeline[3].flip_ratio == 0.25
    assert data.val.pipeline[1].img_scale == (320, 160)


def test_images_without_objects_are_trained_on_too() -> None:
    assert make_config().data.train.filter_empty_gt is False


@pytest.mark.parametrize(
    ("depth", "width", "channels"),
    [
        (50, 1.0, [256, 512, 1024, 2048]),
        (18, 0.25, [16, 32, 64, 128]),
        (34, 0.5, [32, 64, 128, 256]),
    ],
)
def test_the_neck_takes_what_the_backbone_gives(
    depth: Any, width: float, channels: list[int]
) -> None:
    detector = Detector(backbone=ResNet(depth=depth, width=width), neck=Neck(channels=64))

    model = build_detector_config(detector, classes=CLASSES)

    assert model.neck.in_channels == channels
    assert model.bbox_head.in_channels == 64
    assert model.bbox_head.num_classes == 2


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (64, 32), (32, 16)])
def test_a_group_of_the_head_has_two_channels_at_least(channels: int, groups: int) -> None:
    detector = Detector(backbone=ResNet(depth=18), head=GflHead(channels=channels))

    assert build_detector_config(detector, classes=CLASSES).bbox_head.norm_cfg.num_groups == groups


def test_schedules_and_optimizers_become_mmcvs() -> None:
    stepped = make_config(
        schedule={
            "epochs": 12,
            "optimizer": {"kind": "sgd", "lr": 0.01},
            "policy": {"kind": "step", "milestones": [8, 11]},
            "warmup": {"iterations": 500},
            "max_grad_norm": 35,
        }
    )
    smooth = make_config(schedule={"epochs": 2, "optimizer": {"kind": "adamw"}})

    assert stepped.optimizer.type == "SGD"
    assert stepped.lr_config.step == [8, 11]
    assert stepped.lr_config.warmup_iters == 500
    assert stepped.optimizer_config.grad_clip.max_norm == 35
    assert smooth.optimizer.type == "AdamW"
    assert smooth.lr_config.policy == "CosineAnnealing"
    assert smooth.optimizer_config.grad_clip is None


@pytest.mark.parametrize("kind", ["gfl", "atss", "retina", "fcos", "vfnet", "tood", "paa", "yolox"])
def test_student_and_teacher_report_as_many_detections_as_the_spec_says(kind: str) -> None:
    student = Student.model_validate(
        {"backbone": {"kind": "resnet", "depth": 18}, "head": {"kind": kind}}
    )
    teacher = TeacherFiles(checkpoint="/t.pth", detector=student.architecture, classes=CLASSES)
    limits = []
    for evaluation in ({}, {"max_detections": 300}):
        spec = parse_spec(make_bckd_spec(evaluation=evaluation))
        model = build_training_config(
            spec.model_copy(update={"teacher": teacher, "student": student}),
            dataset=DATASET,
            run_dir=Path("/r"),
        ).model
        limits.append((model.test_cfg.max_per_img, model.teacher.config.test_cfg.max_per_img))

    assert limits == [(100, 100), (300, 300)]


@pytest.mark.parametrize(
    ("kind", "published"),
    [("tood", "tood/tood_r50_fpn_1x_coco.py"), ("paa", "paa/paa_r50_fpn_1x_coco.py")],
)
def test_a_head_with_its_defaults_is_the_published_one(kind: str, published: str) -> None:
    file = Path(mmdet.__file__).parent / ".mim" / "configs" / published
    expected = Config.fromfile(str(file)).model
    detector = Detector.model_validate({"backbone": {"depth": 50}, "head": {"kind": kind}})

    model = build_detector_config(detector, classes=tuple(f"c{index}" for index in range(80)))

    assert {**model.bbox_head, "norm_cfg": None} == {**expected.bbox_head, "norm_cfg": None}
    for part in ("type", "neck", "train_cfg", "test_cfg"):
        assert model[part] == expected[part], part


def test_a_student_with_a_teacher_gets_its_files_and_weights() -> None:
    spec = parse_spec(make_bckd_spec(distillation={"method": "bckd", "loc_weight": 2.0}))
    teacher = TeacherFiles(
        checkpoint="/t.pth", detector=Detector(backbone=ResNet(depth=34)), classes=CLASSES
    )

    model = build_training_config(
        spec.model_copy(update={"teacher": teacher}), dataset=DATASET, run_dir=Path("/r")
    ).model

    assert model.type == "TandemDetector"
    assert model.teacher.config.type == "GFL"
    assert model.teacher.config.backbone.depth == 34
    assert model.teacher.checkpoint == "/t.pth"
    assert Bckd(**model.distillation) == Bckd(loc_weight=2.0)


def test_controls_change_the_teacher_alone() -> None:
    detector = {"backbone": {"kind": "resnet", "depth": 34, "pretrained": "imagenet"}}
    teacher = {"checkpoint": "/big.pth", "sha256": "0" * 64, "detector": detector,
               "classes": list(CLASSES)}  # fmt: skip
    plain, random, shuffled = (
        make_config(teacher=teacher, distillation={"method": "bckd"}, **changes).model.teacher
        for changes in ({}, {"control": "random_teacher"}, {"control": "shuffled_teacher"})
    )

    assert plain.config.backbone.init_cfg.type == "Pretrained"
    assert (random.checkpoint, random.sha256) == (None, None)
    assert "init_cfg" not in random.config.backbone
    assert {**shuffled} == {**plain, "shuffle": True}
