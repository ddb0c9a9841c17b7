"""`TandemDetector` on batches with and without objects."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import ConfigDict
from mmdet.models import build_detector

from configs.spec.detector import Detector
from tests.support.training.detectors import (
    make_batch,
    make_class_names,
    make_detector,
    make_mmdet_gfl,
)
from workers.checkpoints.files import save_atomically
from workers.errors import TeacherMismatch
from workers.models.detector_config import build_detector_config

ONE_BOX = [[8.0, 8.0, 40.0, 40.0]]


def make_distilled_student(
    folder: Path,
    *,
    teacher: Detector | None = None,
    teacher_classes: int = 3,
    built_for: int = 3,
    **method: Any,
) -> Any:
    teacher = teacher or make_detector(width=0.25, neck=64)
    checkpoint = folder / "teacher.pth"
    weights = make_mmdet_gfl(teacher, num_classes=teacher_classes, seed=1).state_dict()
    save_atomically({"meta": {}, "state_dict": weights}, checkpoint)
    config = build_detector_config(make_detector(), classes=make_class_names(3))
    config.bbox_head.type = "TandemGFLHead"
    torch.manual_seed(0)
    student = build_detector(
        ConfigDict(
            config,
            type="TandemDetector",
            teacher={
                "config": build_detector_config(teacher, classes=make_class_names(built_for)),
                "checkpoint": str(checkpoint),
                "sha256": None,
            },
            distillation={"method": "bckd", **method},
        )
    )
    student.init_weights()
    return student.train()


@pytest.mark.parametrize(
    "boxes",
    [[ONE_BOX, []], [[], []], [ONE_BOX], [[]], [ONE_BOX, ONE_BOX, []]],
    ids=["one image empty", "all images empty", "batch of one", "one empty image", "three images"],
)
def test_every_batch_gives_finite_losses_and_gradients(tmp_path: Path, boxes: list[Any]) -> None:
    student = make_distilled_student(tmp_path)

    total, values = student._parse_losses(student.forward_train(**make_batch(boxes)))
    total.backward()

    assert all(math.isfinite(value) for value in values.values())
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_padding_beyond_the_image_changes_no_distillation_loss_of_its_own(tmp_path: Path) -> None:
    student = make_distilled_student(tmp_path)

    losses = student.forward_train(**make_batch([ONE_BOX], size=64, padded_to=128))

    assert sum(losses["loss_distill_cls"]).item() > 0


def test_a_term_of_weight_zero_is_not_computed(tmp_path: Path) -> None:
    student = make_distilled_student(tmp_path, cls_weight=0.0, loc_weight=4.0)

    losses = student.forward_train(**make_batch([ONE_BOX]))

    assert "loss_distill_cls" not in losses
    assert "loss_distill_loc" in losses


def test_levels_without_positives_are_distilled_only_when_all_levels_are(tmp_path: Path) -> None:
    batch = make_batch([ONE_BOX])
    published = make_distilled_student(tmp_path, levels="with_positives").forward_train(**batch)
    everywhere = make_distilled_student(tmp_path, levels="all").forward_train(**batch)

    is_zero = [loss.item() == 0.0 for loss in published["loss_distill_cls"]]

    assert any(is_zero)
    assert all(loss.item() > 0.0 for loss in everywhere["loss_distill_cls"])


def test_its_own_losses_are_those_of_plain_gfl(tmp_path: Path) -> None:
    student = make_distilled_student(tmp_path)
    mmdet_model = make_mmdet_gfl(make_detector(), num_classes=3).train()
    mmdet_model.load_state_dict(student.state_dict(), strict=True)
    batch = make_batch([ONE_BOX, []])

    actual = student.forward_train(**copy.deepcopy(batch))
    plain_losses = mmdet_model.forward_train(**copy.deepcopy(batch))

    for name, losses in plain_losses.items():
        assert torch.equal(torch.stack(losses), torch.stack(actual[name]))


def test_the_teacher_is_no_part_of_the_student(tmp_path: Path) -> None:
    student = make_distilled_student(tmp_path)
    mmdet_model = make_mmdet_gfl(make_detector(), num_classes=3)

    mmdet_model.load_state_dict(student.state_dict(), strict=True)

    assert len(list(student.parameters())) == len(list(mmdet_model.parameters()))
    assert not any("teacher" in name for name, _ in student.named_modules())


def test_training_leaves_the_teacher_as_it_was(tmp_path: Path) -> None:
    student = make_distilled_student(tmp_path)
    before = copy.deepcopy(student.teacher.detector.state_dict())
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)

    total, _ = student._parse_losses(student.forward_train(**make_batch([ONE_BOX])))
    total.backward()
    optimizer.step()
    student.train()

    assert not student.teacher.detector.training
    after = student.teacher.detector.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_teacher_runs_while_no_activation_of_the_student_is_in_memory(tmp_path: Path) -> None:
    student = make_distilled_student(tmp_path)
    order: list[str] = []
    student.backbone.register_forward_hook(lambda *_: order.append("student"))
    student.teacher.detector.backbone.register_forward_hook(lambda *_: order.append("teacher"))

    student.forward_train(**make_batch([ONE_BOX]))

    assert order == ["teacher", "student"]


def test_the_teacher_follows_the_student_to_another_type_and_copies_along(tmp_path: Path) -> None:
    student = copy.deepcopy(make_distilled_student(tmp_path)).double()

    assert next(student.teacher.detector.parameters()).dtype is torch.float64


@pytest.mark.parametrize(
    "teacher",
    [make_detector(neck=64, channels=64), make_detector(reg_max=16), make_detector(width=0.5)],
    ids=["wider neck and head", "finer boxes", "wider backbone"],
)
def test_a_teacher_of_another_architecture_can_teach(tmp_path: Path, teacher: Detector) -> None:
    student = make_distilled_student(tmp_path, teacher=teacher)

    _, values = student._parse_losses(student.forward_train(**make_batch([ONE_BOX])))

    assert values["loss_distill_loc"] > 0


def test_a_teacher_with_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherMismatch, match="4 classes and the student 3"):
        make_distilled_student(tmp_path, teacher_classes=4, built_for=4)


def test_a_checkpoint_with_other_classes_than_registered_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TeacherMismatch, match=r"4 classes, 3 are registered.*gfl_cls"):
        make_distilled_student(tmp_path, teacher_classes=4, built_for=3)


def test_a_shuffled_teacher_gives_each_image_the_outputs_of_another(tmp_path: Path) -> None:
    student = make_distilled_student(tmp_path)
    batch = make_batch([ONE_BOX, ONE_BOX])
    own_losses = student.forward_train(**batch)
    repeated = batch | {"img": batch["img"][:1].repeat(2, 1, 1, 1)}
    repeated_losses = student.forward_train(**repeated)

    student.is_teacher_shuffled = True
    losses = student.forward_train(**batch)

    assert not torch.equal(sum(losses["loss_distill_cls"]), sum(own_losses["loss_distill_cls"]))
    assert torch.equal(sum(losses["loss_cls"]), sum(own_losses["loss_cls"]))
    same_losses = student.forward_train(**repeated)["loss_distill_cls"]
    assert torch.equal(sum(same_losses), sum(repeated_losses["loss_distill_cls"]))
