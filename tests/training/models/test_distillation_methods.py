"""Every kind of head as teacher and student, and every method, on batches as they come."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.models import build_detector

from configs.metric_keys import DISTILLATION_TERMS
from configs.spec.distillation import Bckd, ExtraMethods, iter_methods
from tests.support.training.detectors import a_batch, class_names
from tests.support.training.distilled_students import (
    BOXES,
    HEADS,
    METHODS,
    a_detector,
    a_student,
    is_possible,
)
from workers.errors import TeacherMismatch
from workers.models.detector_config import build_detector_config

WEIGHTS_THAT_MAY_BE_0 = {
    "bckd": ("cls_weight", "loc_weight"),
    "ld": ("main_weight", "vlr_weight"),
    "crosskd": ("cls_weight", "loc_weight"),
}


def losses_of(student: Any, boxes: Any = BOXES, *, size: int = 64) -> tuple[torch.Tensor, Any]:
    total, values = student._parse_losses(student.forward_train(**a_batch(boxes, size=size)))
    total.backward()
    return total, values


@pytest.mark.parametrize(
    ("head", "method"), [(h, m) for h in HEADS for m in METHODS if is_possible(h, m)]
)
def test_every_method_teaches_every_head_that_it_can(
    tmp_path: Path, head: str, method: str
) -> None:
    teacher, student = a_detector(head, width=0.25, channels=64), a_detector(head)

    taught = a_student(tmp_path, student, teacher, METHODS[method])
    _, values = losses_of(taught)

    own = set(losses_of(a_student(tmp_path, student))[1])
    added = {name: value for name, value in values.items() if name not in own}
    assert added
    assert {name.removeprefix("loss_") for name in added} <= DISTILLATION_TERMS
    assert all(math.isfinite(value) and value > 0 for value in added.values()), added
    gradients = {n: p.grad for n, p in taught.named_parameters() if p.requires_grad}
    assert not [name for name, g in gradients.items() if g is None or not torch.isfinite(g).all()]
    adapters = [n for n in gradients if n.startswith("adapters.")]
    assert bool(adapters) == (method in ("fine_grained", "pkd", "cwd", "crosskd"))
    assert all(gradients[name].abs().sum() > 0 for name in adapters)


@pytest.mark.parametrize(
    ("head", "method", "weight"),
    [
        (head, method, weight)
        for method, weights in WEIGHTS_THAT_MAY_BE_0.items()
        for weight in weights
        for head in HEADS
        if is_possible(head, method)
    ],
)
def test_a_weight_of_0_leaves_no_parameter_without_a_gradient(
    tmp_path: Path, head: str, method: str, weight: str
) -> None:
    teacher, student = a_detector(head, width=0.25, channels=64), a_detector(head)
    taught = a_student(tmp_path, student, teacher, METHODS[method] | {weight: 0.0})

    losses_of(taught)

    trained = [(name, p.grad) for name, p in taught.named_parameters() if p.requires_grad]
    assert [name for name, gradient in trained if gradient is None] == []


@pytest.mark.parametrize("head", HEADS)
def test_a_students_own_losses_are_those_of_mmdets_head(tmp_path: Path, head: str) -> None:
    ours = a_student(tmp_path, a_detector(head))
    plain = build_detector(build_detector_config(a_detector(head), classes=class_names(3))).train()
    plain.load_state_dict(ours.state_dict(), strict=True)
    batch = a_batch(BOXES)

    _, wanted = plain._parse_losses(plain.forward_train(**copy.deepcopy(batch)))
    _, found = ours._parse_losses(ours.forward_train(**copy.deepcopy(batch)))

    assert dict(found) == dict(wanted)


@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_that_is_the_student_has_nothing_to_teach(tmp_path: Path, head: str) -> None:
    detector = a_detector(head)
    taught = a_student(tmp_path, detector, detector, METHODS["bckd"])
    taught.eval()  # FCOS and VFNet say boxes in other units when they train
    taught.teacher.detector.load_state_dict(taught.state_dict(), strict=True)
    taught.bbox_head.train()
    taught.bbox_head.norm_on_bbox = getattr(taught.bbox_head, "norm_on_bbox", False)

    losses = taught.forward_train(**a_batch(BOXES))

    for name in ("loss_distill_cls", "loss_distill_loc"):
        assert sum(float(of_level.detach()) for of_level in losses[name]) == pytest.approx(
            0.0, abs=1e-5
        )


@pytest.mark.parametrize("head", [head for head in HEADS if head != "vfnet"])
@pytest.mark.parametrize("after_convs", [0, 1, 2])
def test_crossing_into_ones_own_head_says_what_the_head_says(
    tmp_path: Path, head: str, after_convs: int
) -> None:
    detector = a_detector(head)
    method = METHODS["crosskd"] | {"after_convs": after_convs}
    taught = a_student(tmp_path, detector, detector, method)
    taught.backbone.eval()
    if head == "fcos":  # else its boxes have no area, and no IoU even with themselves
        torch.nn.init.constant_(taught.bbox_head.conv_reg.bias, 2.0)
    taught.teacher.detector.load_state_dict(taught.state_dict(), strict=True)

    losses = taught.forward_train(**a_batch(BOXES))

    for name in ("loss_crosskd_cls", "loss_crosskd_loc"):
        assert sum(float(level.detach()) for level in losses[name]) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_without_any_object_gives_finite_losses(tmp_path: Path, head: str) -> None:
    taught = a_student(tmp_path, a_detector(head), a_detector(head), METHODS["bckd"])

    _, values = losses_of(taught, [[], []])

    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(
    ("student", "teacher"),
    [("gfl", "atss"), ("fcos", "gfl"), ("atss", "vfnet"), ("retina with one anchor", "gfl")],
)
def test_heads_of_different_kinds_teach_each_other_where_positions_agree(
    tmp_path: Path, student: str, teacher: str
) -> None:
    taught = a_student(tmp_path, a_detector(student), a_detector(teacher), METHODS["bckd"])

    _, values = losses_of(taught)

    assert values["loss_distill_cls"] > 0
    assert values["loss_distill_loc"] > 0


def test_all_methods_teach_together(tmp_path: Path) -> None:
    extra = {name: method for name, method in METHODS.items() if name != "bckd"}
    method = {"method": "bckd", "extra": extra}

    taught = a_student(tmp_path, a_detector("gfl"), a_detector("gfl", channels=64), method)
    _, values = losses_of(taught)

    assert len(list(iter_methods(Bckd(extra=ExtraMethods(**extra))))) == len(METHODS)
    own = {"loss", "loss_cls", "loss_bbox", "loss_dfl"}
    assert len(values.keys() - own) == 10


def test_a_teacher_that_knows_more_classes_is_matched_by_name(tmp_path: Path) -> None:
    whole = a_student(tmp_path, a_detector("gfl"), a_detector("gfl"), METHODS["bckd"])
    weights = whole.teacher.detector.state_dict()
    matched = a_student(
        tmp_path,
        a_detector("gfl"),
        a_detector("gfl"),
        METHODS["bckd"],
        teacher_classes=5,
        columns=[4, 0, 2],
    )
    wider = matched.teacher.detector.state_dict()
    for name, tensor in weights.items():
        if "gfl_cls" in name:
            wider[name][[4, 0, 2]] = tensor
        else:
            wider[name] = tensor
    matched.teacher.detector.load_state_dict(wider)

    _, wanted = losses_of(whole)
    _, found = losses_of(matched)

    assert dict(found) == dict(wanted)


@pytest.mark.parametrize("method", METHODS)
def test_with_and_without_a_teacher_a_student_begins_the_same(tmp_path: Path, method: str) -> None:
    alone = a_student(tmp_path, a_detector("gfl"))
    taught = a_student(tmp_path, a_detector("gfl"), a_detector("gfl", channels=64), METHODS[method])

    begun = taught.state_dict()
    assert all(torch.equal(tensor, begun[name]) for name, tensor in alone.state_dict().items())


def test_a_class_that_the_teacher_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherMismatch, match="does not know 1 of the student's classes"):
        a_student(
            tmp_path,
            a_detector("gfl"),
            a_detector("gfl"),
            METHODS["bckd"],
            teacher_classes=5,
            columns=[4, -1, 2],
        )


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_less_precision_changes_losses_a_little(tmp_path: Path, head: str, precision: str) -> None:
    whole = a_student(tmp_path, a_detector(head), a_detector(head), METHODS["bckd"])
    less = a_student(
        tmp_path, a_detector(head), a_detector(head), METHODS["bckd"], precision=precision
    )

    _, wanted = losses_of(whole)
    _, found = losses_of(less)

    assert found["loss"] != wanted["loss"]
    assert found["loss"] == pytest.approx(wanted["loss"], rel=0.1)


def test_the_teacher_has_a_precision_of_its_own(tmp_path: Path) -> None:
    one = a_student(tmp_path, a_detector("gfl"), a_detector("gfl"), METHODS["bckd"])
    other = a_student(
        tmp_path, a_detector("gfl"), a_detector("gfl"), METHODS["bckd"], teacher_precision="bf16"
    )

    _, wanted = losses_of(one)
    _, found = losses_of(other)

    assert found["loss_cls"] == wanted["loss_cls"]
    assert found["loss_distill_cls"] != wanted["loss_distill_cls"]


def test_recomputing_the_backbone_changes_nothing_bit_for_bit(tmp_path: Path) -> None:
    kept = a_student(tmp_path, a_detector("gfl"))
    recomputed = a_student(tmp_path, a_detector("gfl"), activation_checkpointing=True)

    for student in (kept, recomputed):
        losses_of(student)

    for (name, ours), theirs in zip(kept.named_parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name
    for (name, ours), theirs in zip(kept.named_buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


def test_loss_shares_show_which_terms_have_a_gradient(tmp_path: Path) -> None:
    taught = a_student(tmp_path, a_detector("gfl"), a_detector("gfl"), METHODS["bckd"])
    taught.loss_shares.is_due = True

    losses_of(taught)

    overall = {share.term: share for share in taught.loss_shares.shares if share.level is None}
    assert set(overall) == {
        *("loss_cls", "loss_bbox", "loss_dfl"),
        *("loss_distill_cls", "loss_distill_loc"),
    }
    assert sum(share.share for share in overall.values()) == pytest.approx(1.0)
    assert all(share.share > 0 for share in overall.values())
    assert all(-1.0 <= share.cosine <= 1.0 for share in overall.values())
    assert {share.level for share in taught.loss_shares.shares} == {None, 0, 1, 2, 3, 4}


def test_ten_times_the_weight_is_ten_times_the_gradient(tmp_path: Path) -> None:
    norms = []
    for weight in (1.0, 10.0):
        method = {"method": "bckd", "cls_weight": weight, "loc_weight": 0.0}
        taught = a_student(tmp_path, a_detector("gfl"), a_detector("gfl"), method)
        taught.loss_shares.is_due = True
        losses_of(taught)
        norms += [
            share.norm
            for share in taught.loss_shares.shares
            if (share.term, share.level) == ("loss_distill_cls", None)
        ]

    assert norms[1] == pytest.approx(10 * norms[0], rel=1e-5)


def test_measuring_loss_shares_leaves_the_gradients_alone(tmp_path: Path) -> None:
    looked, not_looked = (
        a_student(tmp_path, a_detector("gfl"), a_detector("gfl"), METHODS["bckd"]) for _ in range(2)
    )
    looked.loss_shares.is_due = True

    for student in (looked, not_looked):
        losses_of(student)

    for ours, theirs in zip(looked.parameters(), not_looked.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_a_method_on_features_has_a_share_too(tmp_path: Path) -> None:
    taught = a_student(tmp_path, a_detector("gfl"), a_detector("gfl"), METHODS["pkd"])
    taught.loss_shares.is_due = True

    losses_of(taught)

    shares = {share.term: share.share for share in taught.loss_shares.shares if share.level is None}
    assert shares["loss_pkd"] > 0
    assert shares["loss_cls"] > 0
