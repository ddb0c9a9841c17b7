"""Specs of trials, and digests that tell equal specs."""

from typing import Any

import pytest

from configs.catalog import SpecError, spec_from_preset
from configs.derived_specs import (
    baseline_spec,
    can_share_teacher,
    control_spec,
    pack_key,
    seed_group_key,
    spec_digest,
    teacher_key,
    trial_spec,
)
from configs.spec.base import TeacherControl
from configs.spec.data import Unlabelled
from configs.spec.detector import MobileNetV2
from configs.spec.distillation import NoDistillation
from configs.spec.references import NamedDataset
from configs.spec.run import RunSpec
from configs.spec.sweep import Values

BOTH_OFF: Values = {"distillation.cls_weight": 0.0, "distillation.loc_weight": 0.0}


@pytest.fixture
def base() -> RunSpec:
    return spec_from_preset("digits/bckd")


def test_a_trial_without_weights_is_a_baseline(base: RunSpec) -> None:
    spec = trial_spec(base, BOTH_OFF, seed=3)

    assert (spec.distillation, spec.teacher, spec.seed) == (NoDistillation(), None, 3)


def test_a_baseline_trial_keeps_its_other_values(base: RunSpec) -> None:
    values: Values = {
        **BOTH_OFF,
        "schedule.optimizer.lr": 0.004,
        "student.backbone.kind": "mobilenet_v2",
        "student.backbone.width": 0.5,
    }

    spec = trial_spec(base, values, seed=0)

    assert spec.schedule.optimizer.lr == 0.004
    assert spec.student.backbone == MobileNetV2(kind="mobilenet_v2", width=0.5)
    assert spec.teacher is None


def list_digests(spec: RunSpec) -> list[str | None]:
    dataset: dict[str, Any] = {"dataset_digest": "0" * 64}
    digests = [digest(spec, **dataset) for digest in (spec_digest, seed_group_key, teacher_key)]
    return [*digests, pack_key(spec)]


def test_specs_without_later_fields_have_the_digests_of_earlier_versions(base: RunSpec) -> None:
    later_fields = ("max_detections", "inherit", "control", '"ema"', "mosaic", "mixup")
    later_methods = ('"dist"', '"mgd"', '"fgd"')
    later = (*later_fields, *later_methods, "unlabelled")
    document = base.model_dump_json()
    assert not [field for field in later if field in document]
    assert list_digests(base) == [
        "9e529790413ecd34f1b90f70fdf2657182fb089ebe135ea3ae0d2e4f638c6a01",
        "e8d184bb071e656550a84dddedf1fdbd1740f0d4b0152e2cc659c3cad41da771",
        "9ae246cf1d735b6e204faa2f238b6dece681be22294d69e3a183e330dbbf76ab",
        "011f3932a1a4ced1ff57e7bbc1b3395649e03779fd62b08e039faf299f5dcb01",
    ]


def test_runs_that_count_other_numbers_of_detections_are_not_compared(base: RunSpec) -> None:
    evaluation = base.evaluation.model_copy(update={"max_detections": 300})
    crowded = base.model_copy(update={"evaluation": evaluation})

    assert baseline_spec(crowded).evaluation.max_detections == 300
    assert trial_spec(crowded, BOTH_OFF, seed=3).evaluation.max_detections == 300
    pairs = zip(list_digests(base), list_digests(crowded), strict=True)
    assert all(digest != other for digest, other in pairs)


def test_the_baseline_of_a_student_that_inherits_is_the_plain_student(base: RunSpec) -> None:
    student = base.student.model_copy(update={"inherit": ("neck", "head")})
    inheriting = base.model_copy(update={"student": student})

    assert baseline_spec(inheriting) == baseline_spec(base)
    assert trial_spec(inheriting, BOTH_OFF, seed=3) == trial_spec(base, BOTH_OFF, seed=3)
    assert list_digests(inheriting)[0] != list_digests(base)[0]
    assert list_digests(inheriting)[1:] == list_digests(base)[1:]


def test_the_baseline_of_a_student_with_images_without_labels_has_none(base: RunSpec) -> None:
    more = add_unlabelled(base, images_per_batch=4)

    assert baseline_spec(more) == baseline_spec(base)
    assert trial_spec(more, BOTH_OFF, seed=3) == trial_spec(base, BOTH_OFF, seed=3)
    assert list_digests(more)[0] != list_digests(base)[0]
    assert list_digests(more)[1:] == list_digests(base)[1:]


def test_members_of_a_pack_have_the_same_images_without_labels_or_none(base: RunSpec) -> None:
    four, eight = (add_unlabelled(base, images_per_batch=count) for count in (4, 8))

    assert can_share_teacher(four, base)
    assert can_share_teacher(four, four)
    assert can_share_teacher(four, baseline_spec(eight))
    assert not can_share_teacher(four, eight)


def add_unlabelled(base: RunSpec, *, images_per_batch: int) -> RunSpec:
    images = Unlabelled(dataset=NamedDataset(name="photos"), images_per_batch=images_per_batch)
    return base.model_copy(update={"data": base.data.model_copy(update={"unlabelled": images})})


@pytest.mark.parametrize("control", ["random_teacher", "shuffled_teacher"])
def test_a_control_is_the_same_run_with_another_teacher(
    base: RunSpec, control: TeacherControl
) -> None:
    derived = control_spec(base, control)

    assert derived.model_copy(update={"control": None}) == base
    assert baseline_spec(derived) == baseline_spec(base)
    digest, group_key, measured_teacher, packs = list_digests(derived)
    expected = list_digests(base)
    assert digest != expected[0]
    assert measured_teacher != expected[2]
    assert (group_key, packs) == (expected[1], expected[3])
    assert can_share_teacher(base, derived) == (control == "shuffled_teacher")


def test_a_run_without_a_teacher_has_no_controls(base: RunSpec) -> None:
    with pytest.raises(SpecError, match="no effect without a teacher"):
        control_spec(baseline_spec(base), "random_teacher")
