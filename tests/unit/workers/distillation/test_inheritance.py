"""Which initial weights of a student are the teacher's."""

from typing import Any

import pytest
import torch
from mmdet.models import build_detector

from configs.spec.detector import Detector, Part
from tests.support.training.detectors import make_class_names, make_detector
from tests.support.training.distilled_students import make_detector as make_with_head
from workers.distillation.inheritance import inherit_weights
from workers.errors import TeacherMismatch
from workers.models.detector_config import build_detector_config

PARTS: tuple[Part, ...] = ("neck", "head")


def build(spec: Detector, *, seed: int, num_classes: int = 3) -> Any:
    """A detector in which no tensor of neck or head has its usual initial value."""
    model = build_detector(build_detector_config(spec, classes=make_class_names(num_classes)))
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    return model


def copy_state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_layers_of_equal_shape_are_the_teachers_and_all_others_stay() -> None:
    student, teacher = build(make_detector(), seed=1), build(make_detector(width=0.25), seed=2)
    before, expected = copy_state(student), teacher.state_dict()

    inherited = inherit_weights(student, teacher, parts=PARTS, columns=None)

    state = student.state_dict()
    laterals = {name for name in state if name.startswith("neck.lateral_convs")}
    assert set(inherited.unmatched) == laterals
    assert all(state[name].equal(expected[name]) for name in inherited.tensors)
    assert all(state[name].equal(before[name]) for name in state.keys() - set(inherited.tensors))
    assert all(name.startswith(("neck.", "bbox_head.")) for name in inherited.tensors)
    assert set(inherited.tensors) | laterals == {
        name for name in state if name.startswith(("neck.", "bbox_head."))
    }
    num_tensors = len(inherited.tensors) + len(laterals)
    assert inherited.summary == (
        f"{len(inherited.tensors)} of {num_tensors} tensors of neck and head; not taken: "
        "neck.lateral_convs.0.conv, neck.lateral_convs.1.conv, neck.lateral_convs.2.conv"
    )


def test_only_the_named_part_is_taken() -> None:
    student, teacher = build(make_detector(), seed=1), build(make_detector(), seed=2)

    inherited = inherit_weights(student, teacher, parts=("head",), columns=None)

    assert {name.split(".")[0] for name in inherited.tensors} == {"bbox_head"}
    assert inherited.unmatched == ()
    assert "not taken" not in inherited.summary


def test_a_head_of_another_kind_gives_its_towers() -> None:
    student = build(make_with_head("gfl"), seed=1)
    teacher = build(make_with_head("atss"), seed=2)

    inherited = inherit_weights(student, teacher, parts=("head",), columns=None)

    assert "bbox_head.cls_convs.1.gn.weight" in inherited.tensors
    assert {"bbox_head.gfl_cls.weight", "bbox_head.gfl_reg.bias"} <= set(inherited.unmatched)


@pytest.mark.parametrize(("head", "layer"), [("gfl", "gfl_cls"), ("retina", "retina_cls")])
def test_class_rows_are_those_of_the_students_classes(head: str, layer: str) -> None:
    student = build(make_with_head(head), seed=1)
    teacher = build(make_with_head(head), seed=2, num_classes=5)

    inherit_weights(student, teacher, parts=("head",), columns=[4, 0, 2])

    own, other = (getattr(model.bbox_head, layer) for model in (student, teacher))
    num_anchors = len(own.weight) // 3
    for anchor in range(num_anchors):
        for row, column in enumerate([4, 0, 2]):
            assert own.weight[3 * anchor + row].equal(other.weight[5 * anchor + column])
            assert own.bias[3 * anchor + row].equal(other.bias[5 * anchor + column])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_which_nothing_fits_is_refused_with_the_shapes(part: Part) -> None:
    student = build(make_detector(neck=32, channels=32), seed=1)
    teacher = build(make_detector(neck=64, channels=64), seed=2)
    before = copy_state(student)

    with pytest.raises(TeacherMismatch, match=f"student.inherit names the {part}.*32.*64"):
        inherit_weights(student, teacher, parts=(part,), columns=None)

    assert all(tensor.equal(before[name]) for name, tensor in student.state_dict().items())
