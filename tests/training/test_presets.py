"""Every preset builds; the paper's trains a step."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.models import build_detector

from configs.catalog import preset_names, spec_from_preset
from configs.spec import MANIFEST, Bckd, NamedTeacher, ResNet, RunSpec, TeacherFiles
from tests.detectors import a_batch, a_plain_gfl, class_names
from tests.factories import a_manifest
from workers.recipe import DatasetPlace, config_from_spec

PAPER = "coco/bckd_r50_from_r101"
R101 = spec_from_preset("coco/baseline_r50").student.model_copy(
    update={"backbone": ResNet(depth=101)}
)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_spec_and_becomes_a_config(name: str, tmp_path: Path) -> None:
    spec = spec_from_preset(name)

    config = config_from_spec(resolved(spec), dataset=a_place(tmp_path), run_dir=tmp_path)

    assert config.runner.max_epochs == spec.schedule.epochs
    assert MANIFEST not in config.pretty_text
    assert ("teacher" in config.model) == isinstance(spec.distillation, Bckd)


def test_the_papers_preset_says_what_the_paper_says() -> None:
    spec = spec_from_preset(PAPER)

    assert spec.student.backbone == ResNet(
        depth=50, frozen_stages=1, norm_eval=True, pretrained="imagenet"
    )
    assert spec.distillation == Bckd(cls_weight=1.0, loc_weight=4.0, levels="with_positives")
    assert spec.schedule.epochs == 12
    assert spec.schedule.optimizer.lr == 0.01
    assert spec.data.batch_size == 16
    assert spec.data.image_size == (1333, 800)
    assert spec.teacher == NamedTeacher(name="gfl-r101-coco-2x-ms")


def test_baseline_and_distilled_student_differ_by_teacher_and_method_alone() -> None:
    for baseline, taught in (("coco/baseline_r50", PAPER), ("digits/baseline", "digits/bckd")):
        alone, with_teacher = spec_from_preset(baseline), spec_from_preset(taught)

        assert (
            with_teacher.model_copy(update={"teacher": None, "distillation": alone.distillation})
            == alone
        )


def test_the_papers_pair_trains_a_step(tmp_path: Path) -> None:
    checkpoint = tmp_path / "r101.pth"
    torch.save({"state_dict": a_plain_gfl(R101, num_classes=80).state_dict()}, checkpoint)
    spec = resolved(spec_from_preset(PAPER), checkpoint=str(checkpoint))
    config = config_from_spec(spec, dataset=a_place(tmp_path), run_dir=tmp_path)
    # ImageNet weights need a download.
    config.model.backbone.pop("init_cfg")
    student = build_detector(config.model).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    before = student.bbox_head.gfl_cls.weight.clone()

    total, values = student._parse_losses(
        student.forward_train(**a_batch([[[10.0, 10, 90, 90]], []], size=128))
    )
    total.backward()
    optimizer.step()

    assert values["loss_distill_cls"] > 0
    assert values["loss_distill_loc"] > 0
    assert all(math.isfinite(value) for value in values.values())
    assert not torch.equal(before, student.bbox_head.gfl_cls.weight)


def a_place(root: Path) -> DatasetPlace:
    return DatasetPlace(root, a_manifest(classes=class_names(80)))


def resolved(spec: RunSpec, **changes: Any) -> RunSpec:
    """The spec with its teacher as files, as the service hands it to a worker."""
    if spec.teacher is None:
        return spec
    teacher = TeacherFiles(
        **{"checkpoint": "/teacher.pth", "detector": R101, "classes": class_names(80), **changes}
    )
    return spec.model_copy(update={"teacher": teacher})
