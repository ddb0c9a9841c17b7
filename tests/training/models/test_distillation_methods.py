"""Every head as teacher and student with every method, on batches with and without objects."""

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.models import build_detector

from configs.metric_keys import DISTILLATION_TERMS
from configs.spec.active_methods import iter_methods
from configs.spec.distillation import Bckd, ExtraMethods
from tests.support.training.detectors import make_batch, make_class_names
from tests.support.training.distilled_students import (
    ALL_HEADS,
    BOXES,
    HEADS,
    METHODS,
    hold_statistics,
    is_supported,
    list_heads_with_methods,
    make_detector,
    make_student,
    teach_itself,
)
from workers.distillation.teacher import share_teachers
from workers.errors import TeacherMismatch
from workers.models.detector_config import build_detector_config

WEIGHTS_THAT_MAY_BE_0 = {
    "bckd": ("cls_weight", "loc_weight"),
    "ld": ("main_weight", "vlr_weight"),
    "crosskd": ("cls_weight", "loc_weight"),
    "dist": ("inter_weight", "intra_weight"),
    "fgd": ("foreground_weight", "background_weight", "attention_weight", "relation_weight"),
}

METHODS_WITH_ADAPTERS = ("fine_grained", "pkd", "cwd", "crosskd", "mgd", "fgd")


def compute_losses(student: Any, boxes: Any = BOXES, *, size: int = 64) -> tuple[torch.Tensor, Any]:
    total, values = student._parse_losses(student.forward_train(**make_batch(boxes, size=size)))
    total.backward()
    return total, values


def is_of_small_level(adapter: str) -> bool:
    """Whether an adapter is of a level whose only location may be masked."""
    return re.match(r"adapters\.\w+\.[34]\.", adapter) is not None


@pytest.mark.parametrize(("head", "method"), list_heads_with_methods())
def test_every_method_teaches_every_head_that_it_can(
    tmp_path: Path, head: str, method: str
) -> None:
    teacher, student = make_detector(head, width=0.25, channels=64), make_detector(head)

    distilled = make_student(tmp_path, student, teacher, METHODS[method])
    _, values = compute_losses(distilled)

    own = set(compute_losses(make_student(tmp_path, student))[1])
    added = {name: value for name, value in values.items() if name not in own}
    assert added
    assert {name.removeprefix("loss_") for name in added} <= DISTILLATION_TERMS
    assert all(math.isfinite(value) and value > 0 for value in added.values()), added
    gradients = {n: p.grad for n, p in distilled.named_parameters() if p.requires_grad}
    assert not [name for name, g in gradients.items() if g is None or not torch.isfinite(g).all()]
    adapters = [n for n in gradients if n.startswith("adapters.")]
    assert bool(adapters) == (method in METHODS_WITH_ADAPTERS)
    assert all(gradients[name].abs().sum() > 0 for name in adapters if not is_of_small_level(name))


@pytest.mark.parametrize(
    ("head", "method", "weight"),
    [
        pytest.param(head, method, weight, marks=() if head == "gfl" else pytest.mark.slow)
        for method, weights in WEIGHTS_THAT_MAY_BE_0.items()
        for weight in weights
        for head in HEADS
        if is_supported(head, method)
    ],
)
def test_a_weight_of_0_leaves_no_parameter_without_a_gradient(
    tmp_path: Path, head: str, method: str, weight: str
) -> None:
    teacher, student = make_detector(head, width=0.25, channels=64), make_detector(head)
    distilled = make_student(tmp_path, student, teacher, METHODS[method] | {weight: 0.0})

    compute_losses(distilled)

    gradients = [(name, p.grad) for name, p in distilled.named_parameters() if p.requires_grad]
    assert [name for name, gradient in gradients if gradient is None] == []


@pytest.mark.parametrize("head", ALL_HEADS)
def test_a_students_own_losses_are_those_of_mmdets_head(tmp_path: Path, head: str) -> None:
    student = make_student(tmp_path, make_detector(head))
    mmdet_model = build_detector(
        build_detector_config(make_detector(head), classes=make_class_names(3))
    ).train()
    mmdet_model.load_state_dict(student.state_dict(), strict=True)
    batch = make_batch(BOXES)

    _, expected = mmdet_model._parse_losses(mmdet_model.forward_train(**copy.deepcopy(batch)))
    _, actual = student._parse_losses(student.forward_train(**copy.deepcopy(batch)))

    assert dict(actual) == dict(expected)


@pytest.mark.parametrize("head", ALL_HEADS)
def test_a_teacher_that_is_the_student_has_nothing_to_teach(tmp_path: Path, head: str) -> None:
    detector = make_detector(head)
    distilled = make_student(tmp_path, detector, detector, METHODS["bckd"])
    distilled.eval()  # FCOS and VFNet say boxes in other units when they train
    teach_itself(distilled, tmp_path, detector)
    distilled.bbox_head.train()
    hold_statistics(distilled.bbox_head)  # YOLOX has batch norms
    distilled.bbox_head.norm_on_bbox = getattr(distilled.bbox_head, "norm_on_bbox", False)

    losses = distilled.forward_train(**make_batch(BOXES))

    for name in ("loss_distill_cls", "loss_distill_loc"):
        assert sum(float(of_level.detach()) for of_level in losses[name]) == pytest.approx(
            0.0, abs=1e-5
        )


@pytest.mark.parametrize("head", [head for head in HEADS if is_supported(head, "crosskd")])
@pytest.mark.parametrize("after_convs", [0, 1, 2])
def test_crossing_into_ones_own_head_says_what_the_head_says(
    tmp_path: Path, head: str, after_convs: int
) -> None:
    detector = make_detector(head)
    method = METHODS["crosskd"] | {"after_convs": after_convs}
    distilled = make_student(tmp_path, detector, detector, method)
    distilled.backbone.eval()
    if head == "fcos":  # else its boxes have no area, and no IoU even with themselves
        torch.nn.init.constant_(distilled.bbox_head.conv_reg.bias, 2.0)
    teach_itself(distilled, tmp_path, detector)

    losses = distilled.forward_train(**make_batch(BOXES))

    for name in ("loss_crosskd_cls", "loss_crosskd_loc"):
        assert sum(float(level.detach()) for level in losses[name]) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_trains_with_its_channels_last(tmp_path: Path, head: str) -> None:
    detector = make_detector(head)
    students = [
        make_student(tmp_path, detector, detector, METHODS["bckd"], channels_last=channels_last)
        for channels_last in (False, True)
    ]
    students[1].to(memory_format=torch.channels_last)

    (expected, _), (actual, _) = (compute_losses(student) for student in students)

    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_without_any_object_gives_finite_losses(tmp_path: Path, head: str) -> None:
    distilled = make_student(tmp_path, make_detector(head), make_detector(head), METHODS["bckd"])

    _, values = compute_losses(distilled, [[], []])

    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("gfl", "atss"),
        ("fcos", "gfl"),
        ("atss", "vfnet"),
        ("tood", "atss"),
        ("retina with one anchor", "gfl"),
    ],
)
def test_heads_of_different_kinds_teach_each_other_where_positions_agree(
    tmp_path: Path, student: str, teacher: str
) -> None:
    distilled = make_student(
        tmp_path, make_detector(student), make_detector(teacher), METHODS["bckd"]
    )

    _, values = compute_losses(distilled)

    assert values["loss_distill_cls"] > 0
    assert values["loss_distill_loc"] > 0


def test_all_methods_teach_together(tmp_path: Path) -> None:
    extra = {name: method for name, method in METHODS.items() if name != "bckd"}
    method = {"method": "bckd", "extra": extra}

    distilled = make_student(
        tmp_path, make_detector("gfl"), make_detector("gfl", channels=64), method
    )
    _, values = compute_losses(distilled)

    assert len(list(iter_methods(Bckd(extra=ExtraMethods(**extra))))) == len(METHODS)
    own = {"loss", "loss_cls", "loss_bbox", "loss_dfl"}
    assert len(values.keys() - own) == 17


def test_a_teacher_that_knows_more_classes_is_matched_by_name(tmp_path: Path) -> None:
    reference = make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), METHODS["bckd"])
    weights = reference.teacher.detector.state_dict()
    matched = make_student(
        tmp_path,
        make_detector("gfl"),
        make_detector("gfl"),
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

    _, expected = compute_losses(reference)
    _, actual = compute_losses(matched)

    assert dict(actual) == dict(expected)


@pytest.mark.parametrize("method", METHODS)
def test_with_and_without_a_teacher_a_student_begins_the_same(tmp_path: Path, method: str) -> None:
    baseline = make_student(tmp_path, make_detector("gfl"))
    distilled = make_student(
        tmp_path, make_detector("gfl"), make_detector("gfl", channels=64), METHODS[method]
    )

    initial_state = distilled.state_dict()
    assert all(
        torch.equal(tensor, initial_state[name]) for name, tensor in baseline.state_dict().items()
    )


@pytest.mark.parametrize("method", ["pkd", "crosskd", "mgd", "fgd"])
def test_adapters_begin_the_same_with_a_teacher_that_another_student_has_loaded(
    tmp_path: Path, method: str
) -> None:
    detector, teacher = make_detector("gfl"), make_detector("gfl", channels=64)
    with share_teachers():
        first, second = (
            make_student(tmp_path, detector, teacher, METHODS[method]) for _ in range(2)
        )

    assert first.teacher is second.teacher
    expected = first.adapters.state_dict()
    assert all(torch.equal(expected[n], t) for n, t in second.adapters.state_dict().items())


def test_a_class_that_the_teacher_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherMismatch, match="does not know 1 of the student's classes"):
        make_student(
            tmp_path,
            make_detector("gfl"),
            make_detector("gfl"),
            METHODS["bckd"],
            teacher_classes=5,
            columns=[4, -1, 2],
        )


@pytest.mark.parametrize(
    "head",
    [
        head if head in ("gfl", "fcos") else pytest.param(head, marks=pytest.mark.slow)
        for head in HEADS
    ],
)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_less_precision_changes_losses_a_little(tmp_path: Path, head: str, precision: str) -> None:
    full_precision = make_student(
        tmp_path, make_detector(head), make_detector(head), METHODS["bckd"]
    )
    reduced_precision = make_student(
        tmp_path, make_detector(head), make_detector(head), METHODS["bckd"], precision=precision
    )

    _, expected = compute_losses(full_precision)
    _, actual = compute_losses(reduced_precision)

    assert actual["loss"] != expected["loss"]
    assert actual["loss"] == pytest.approx(expected["loss"], rel=0.1)


def test_the_teacher_has_a_precision_of_its_own(tmp_path: Path) -> None:
    reference = make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), METHODS["bckd"])
    half_precision = make_student(
        tmp_path,
        make_detector("gfl"),
        make_detector("gfl"),
        METHODS["bckd"],
        teacher_precision="bf16",
    )

    _, expected = compute_losses(reference)
    _, actual = compute_losses(half_precision)

    assert actual["loss_cls"] == expected["loss_cls"]
    assert actual["loss_distill_cls"] != expected["loss_distill_cls"]


def test_recomputing_the_backbone_changes_nothing_bit_for_bit(tmp_path: Path) -> None:
    stored = make_student(tmp_path, make_detector("gfl"))
    recomputed = make_student(tmp_path, make_detector("gfl"), activation_checkpointing=True)

    for student in (stored, recomputed):
        compute_losses(student)

    for (name, expected), actual in zip(
        stored.named_parameters(), recomputed.parameters(), strict=True
    ):
        assert torch.equal(expected.grad, actual.grad), name
    for (name, expected), actual in zip(stored.named_buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(expected, actual), name


def test_loss_shares_show_which_terms_have_a_gradient(tmp_path: Path) -> None:
    distilled = make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), METHODS["bckd"])
    distilled.loss_shares.is_due = True

    compute_losses(distilled)

    overall = {share.term: share for share in distilled.loss_shares.shares if share.level is None}
    assert set(overall) == {
        *("loss_cls", "loss_bbox", "loss_dfl"),
        *("loss_distill_cls", "loss_distill_loc"),
    }
    assert sum(share.share for share in overall.values()) == pytest.approx(1.0)
    assert all(share.share > 0 for share in overall.values())
    assert all(-1.0 <= share.cosine <= 1.0 for share in overall.values())
    assert {share.level for share in distilled.loss_shares.shares} == {None, 0, 1, 2, 3, 4}


def test_ten_times_the_weight_is_ten_times_the_gradient(tmp_path: Path) -> None:
    norms = []
    for weight in (1.0, 10.0):
        method = {"method": "bckd", "cls_weight": weight, "loc_weight": 0.0}
        distilled = make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), method)
        distilled.loss_shares.is_due = True
        compute_losses(distilled)
        norms += [
            share.norm
            for share in distilled.loss_shares.shares
            if (share.term, share.level) == ("loss_distill_cls", None)
        ]

    assert norms[1] == pytest.approx(10 * norms[0], rel=1e-5)


def test_measuring_loss_shares_leaves_the_gradients_alone(tmp_path: Path) -> None:
    measured, not_measured = (
        make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), METHODS["bckd"])
        for _ in range(2)
    )
    measured.loss_shares.is_due = True

    for student in (measured, not_measured):
        compute_losses(student)

    for expected, actual in zip(measured.parameters(), not_measured.parameters(), strict=True):
        assert torch.equal(expected.grad, actual.grad)


def test_a_method_on_features_has_a_share_too(tmp_path: Path) -> None:
    distilled = make_student(tmp_path, make_detector("gfl"), make_detector("gfl"), METHODS["pkd"])
    distilled.loss_shares.is_due = True

    compute_losses(distilled)

    shares = {
        share.term: share.share for share in distilled.loss_shares.shares if share.level is None
    }
    assert shares["loss_pkd"] > 0
    assert shares["loss_cls"] > 0
