"""Every preset builds a config; test_published_presets.py trains those of the paper."""

from pathlib import Path
from typing import Any

import pytest

from configs.catalog import preset_names, spec_from_preset
from configs.spec.dataset import MANIFEST
from configs.spec.detector import EfficientNetLite, ResNet
from configs.spec.distillation import Bckd
from configs.spec.references import NamedTeacher, TeacherFiles
from configs.spec.run import RunSpec
from tests.support.factories import make_manifest
from tests.support.training.detectors import make_class_names
from workers.data.resolve import LocalDataset
from workers.models.training_config import build_training_config

PAPER = "coco/bckd_r50_from_r101"
R101 = spec_from_preset("coco/baseline_r50").student.model_copy(
    update={"backbone": ResNet(depth=101)}
)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_spec_and_becomes_a_config(name: str, tmp_path: Path) -> None:
    spec = spec_from_preset(name)

    config = build_training_config(
        resolve_teacher(spec), dataset=make_dataset(tmp_path), run_dir=tmp_path
    )

    assert config.runner.max_epochs == spec.schedule.epochs
    assert MANIFEST not in str(config)
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


@pytest.mark.parametrize("experiment", ["digits", "bccd"])
def test_baseline_and_distilled_student_differ_by_teacher_and_method_only(experiment: str) -> None:
    without_teacher, distilled = (
        spec_from_preset(f"{experiment}/{name}") for name in ("baseline", "bckd")
    )

    assert (
        distilled.model_copy(update={"teacher": None, "distillation": without_teacher.distillation})
        == without_teacher
    )


def test_the_blood_cells_teacher_sees_what_its_student_sees() -> None:
    teacher, student = (spec_from_preset(f"bccd/{name}") for name in ("teacher", "bckd"))

    assert teacher.data == student.data
    assert teacher.student.normalize == student.student.normalize == "half"
    assert (teacher.student.backbone, student.student.backbone) == tuple(
        EfficientNetLite(
            kind="efficientnet_lite",
            variant=variant,
            frozen_stages=1,
            norm_eval=True,
            pretrained="imagenet",
        )
        for variant in (2, 0)
    )


def make_dataset(root: Path) -> LocalDataset:
    return LocalDataset(root, make_manifest(classes=make_class_names(80)))


def resolve_teacher(spec: RunSpec, **changes: Any) -> RunSpec:
    """The spec with its teacher as files, as the service passes it to a worker."""
    if spec.teacher is None:
        return spec
    teacher = TeacherFiles(
        **{
            "checkpoint": "/teacher.pth",
            "detector": R101,
            "classes": make_class_names(80),
            **changes,
        }
    )
    return spec.model_copy(update={"teacher": teacher})
