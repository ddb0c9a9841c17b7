"""Settings without an effect, and impossible ones, are refused by name."""

from typing import Any

import pytest

from configs.catalog import SpecError, parse_spec
from configs.spec.active_methods import iter_methods
from configs.spec.detector import EfficientNetLite, RetinaHead
from configs.spec.distillation import Bckd, Fgd, Ld, Pkd
from configs.spec.run import RunSpec
from tests.support.factories import make_bckd_spec, make_spec

UNLABELLED = make_spec()["data"] | {
    "unlabelled": {"dataset": {"name": "photos"}, "images_per_batch": 6}
}

INVALID_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "ld without weights": (
        {"distillation": {"method": "ld", "main_weight": 0, "vlr_weight": 0}},
        "both 0",
    ),
    "a region that weighs nothing": (
        {"distillation": {"method": "ld", "vlr_gamma": 0.5}},
        "vlr_gamma has no effect",
    ),
    "ld for another head": (
        {
            "distillation": {"method": "ld"},
            "student": {"backbone": {"depth": 18}, "head": {"kind": "fcos"}},
        },
        "student.head.kind is fcos",
    ),
    "ld beside bckd for another head": (
        {
            "distillation": {"method": "bckd", "extra": {"ld": {}}},
            "student": {"backbone": {"depth": 18}, "head": {"kind": "atss"}},
        },
        "student.head.kind is atss",
    ),
    "crosskd through a head without towers": (
        {
            "distillation": {"method": "crosskd"},
            "student": {"backbone": {"depth": 18}, "head": {"kind": "vfnet"}},
        },
        "vfnet has none",
    ),
    "crosskd through a tower for both tasks": (
        {
            "distillation": {"method": "crosskd"},
            "student": {"backbone": {"depth": 18}, "head": {"kind": "tood"}},
        },
        "tood has none",
    ),
    "crosskd through towers of one level each": (
        {
            "distillation": {"method": "crosskd"},
            "student": {"backbone": {"depth": 18}, "head": {"kind": "yolox"}},
        },
        "yolox has none",
    ),
    "epochs before a task alignment that never comes": (
        {
            "student": {
                "backbone": {"depth": 18},
                "head": {"kind": "tood", "initial_epochs": 12},
            },
        },
        "schedule.epochs is 2",
    ),
    "crossing after the last convolution": (
        {"distillation": {"method": "crosskd", "after_convs": 6}},
        "student.head.convs is 4",
    ),
    "a temperature for boxes that are no distributions": (
        {
            "distillation": {"method": "crosskd", "temperature": 2},
            "student": {"backbone": {"depth": 18}, "head": {"kind": "atss"}},
        },
        "no effect with student.head.kind atss",
    ),
    "a temperature without attention": (
        {
            "distillation": {
                "method": "fgd",
                **dict.fromkeys(("foreground_weight", "background_weight", "attention_weight"), 0),
                "temperature": 1,
            }
        },
        "no effect while only relation_weight",
    ),
    "four weights of zero": (
        {"distillation": {"method": "fgd", **dict.fromkeys(Fgd.traits.terms, 0)}},
        "and relation_weight are all 0",
    ),
    "a setting of another method": (
        {"distillation": {"method": "pkd", "cls_weight": 1}},
        "method pkd does not",
    ),
    "a weight of zero": ({"distillation": {"method": "pkd", "weight": 0}}, "needs more than 0"),
    "a control without a teacher": (
        {"teacher": None, "distillation": {"method": "none"}, "control": "random_teacher"},
        "control has no effect without a teacher",
    ),
    "other images where there is one": (
        {"control": "shuffled_teacher", "compute": {"grad_accumulation_steps": 4}},
        "loads 1 at once; make it 8 or more",
    ),
    "a batch that cannot be shared": (
        {"resources": {"processes": 3}},
        "data.batch_size 4 cannot be shared by 3 processes",
    ),
    "parts that do not divide": (
        {"compute": {"grad_accumulation_steps": 3}},
        "make it a multiple of 3",
    ),
    "elastic to the same number": (
        {"resources": {"processes": 2, "min_processes": 2}},
        "no effect unless it is smaller",
    ),
    "sync_bn of one process": ({"compute": {"sync_bn": True}}, "it has no effect"),
    "sync_bn of a number of processes that may shrink": (
        {
            "compute": {"sync_bn": True},
            "resources": {"processes": 2, "min_processes": 1, "num_gpus": 1},
        },
        "exclude each other",
    ),
    "shares of a head whose norms wait for other processes": (
        {
            "compute": {"sync_bn": True},
            "resources": {"processes": 2, "num_gpus": 1},
            "student": {"backbone": {"depth": 18}, "head": {"kind": "yolox"}},
        },
        "set it to null",
    ),
    "tf32 on a CPU": ({"compute": {"precision": "tf32"}}, "resources.num_gpus is 0"),
    "a teacher in tf32 on a CPU": ({"compute": {"teacher_precision": "tf32"}}, "use fp32"),
    "a CPU that need not repeat itself": (
        {"compute": {"deterministic": False}},
        "a CPU is always deterministic",
    ),
    "a head of a kind that is not": (
        {"student": {"backbone": {"depth": 18}, "head": {"kind": "yolo"}}},
        "one of gfl, atss, retina, fcos, vfnet, tood, paa or yolox",
    ),
    "a pyramid of three levels for a head of five": (
        {"student": {"backbone": {"depth": 18}, "neck": {"kind": "yolox_pafpn"}}},
        "head.kind is gfl; use neck.kind fpn",
    ),
    "a pyramid of three levels of a backbone that gives four": (
        {
            "student": {
                "backbone": {"kind": "efficientnet_lite"},
                "neck": {"kind": "yolox_pafpn"},
                "head": {"kind": "yolox"},
            },
        },
        "efficientnet_lite gives four",
    ),
    "imagenet weights of a backbone that has none": (
        {"student": {"backbone": {"kind": "csp_darknet", "pretrained": "imagenet"}}},
        "student.backbone.pretrained",
    ),
    "a style of bottlenecks without bottlenecks": (
        {"student": {"backbone": {"depth": 34, "style": "caffe"}}},
        "a ResNet-34 has no bottlenecks",
    ),
    "imagenet weights of Caffe that do not exist": (
        {"student": {"backbone": {"depth": 152, "style": "caffe", "pretrained": "imagenet"}}},
        "depths 50 and 101, not 152",
    ),
    "imagenet weights of a ResNeXt that do not exist": (
        {
            "student": {
                "backbone": {
                    "kind": "resnext",
                    "depth": 50,
                    "groups": 64,
                    "pretrained": "imagenet",
                }
            }
        },
        "not for depth 50 with 64",
    ),
    "weights that are not": (
        {"student": {"backbone": {"depth": 18, "width": 0.5, "pretrained": "imagenet"}}},
        "width 1.0",
    ),
    "a mosaic that ends before it begins": (
        {"data": make_spec()["data"] | {"mosaic": {}}, "schedule": {"epochs": 2}},
        "data.mosaic has no effect: the last 2 epochs are without it",
    ),
    "a mixup that never happens": (
        {"data": make_spec()["data"] | {"mixup": {"probability": 0}}},
        "data.mixup.probability",
    ),
    "images without labels and without a teacher": (
        {"teacher": None, "distillation": {"method": "none"}, "data": UNLABELLED},
        "data.unlabelled has no effect without a teacher",
    ),
    "images without labels for a method that needs them": (
        {"distillation": {"method": "fgd"}, "data": UNLABELLED},
        "distillation: fgd distills where labels say that an object is, which images of "
        "data.unlabelled do not have; use bckd, pkd, cwd or mgd with them",
    ),
    "images without labels for an extra method that needs them": (
        {"distillation": {"method": "bckd", "extra": {"pkd": {}, "dist": {}}}, "data": UNLABELLED},
        "distillation.extra.dist: dist distills where labels say",
    ),
    "images without labels for a method of another package that needs them": (
        {
            "distillation": {
                "method": "installed",
                "name": "mgd_plus",
                "release": {"version": "1", "digest": "a" * 64, "needs": []},
            },
            "data": UNLABELLED,
        },
        "distillation.fields: mgd_plus distills where labels say",
    ),
    "an installed method under another name": (
        {"distillation": {"method": "bckd", "extra": {"installed": {"a": {"name": "b"}}}}},
        "a.name is b; a method's key is its name",
    ),
    "no installed method": (
        {"distillation": {"method": "bckd", "extra": {"installed": {}}}},
        "distillation.extra.installed",
    ),
    "images without labels that cannot be shared": (
        {"data": UNLABELLED, "compute": {"grad_accumulation_steps": 4}},
        "data.unlabelled.images_per_batch 6 cannot be shared evenly by 4 micro-batches",
    ),
    "other images without labels where there is one": (
        {
            "data": UNLABELLED | {"batch_size": 12},
            "control": "shuffled_teacher",
            "compute": {"grad_accumulation_steps": 6},
        },
        "with data.unlabelled.images_per_batch 6 it loads 1 at once; make it 12 or more",
    ),
    "a part that is inherited twice": (
        {"student": {"backbone": {"depth": 18}, "inherit": ["neck", "neck"]}},
        "name each part once",
    ),
}


@pytest.mark.parametrize(("changes", "message"), INVALID_CHANGES.values(), ids=INVALID_CHANGES)
def test_settings_without_an_effect_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as exc_info:
        parse_spec(make_bckd_spec(**changes))

    assert message.lower() in str(exc_info.value).lower()


@pytest.mark.parametrize(
    "changes", [{"compute": {"teacher_precision": "bf16"}}, {"teacher_classes": "by_name"}]
)
def test_settings_of_a_teacher_are_refused_without_one(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="no effect without a teacher"):
        parse_spec(make_spec(**changes))


def test_nothing_is_inherited_without_a_teacher() -> None:
    student = {"backbone": {"depth": 18}, "inherit": ["head"]}

    with pytest.raises(SpecError, match="takes weights of the teacher, and there is none"):
        parse_spec(make_spec(student=student))


def test_the_order_of_inherited_parts_makes_no_other_spec() -> None:
    first, second = (
        parse_spec(make_bckd_spec(student={"backbone": {"depth": 18}, "inherit": parts}))
        for parts in (["head", "neck"], ["neck", "head"])
    )

    assert first == second


def test_a_spec_survives_json_whatever_it_holds() -> None:
    spec = parse_spec(
        make_bckd_spec(
            student={
                "backbone": {"kind": "efficientnet_lite", "variant": 2},
                "head": {"kind": "retina", "anchors": 1},
            },
            distillation={"method": "bckd", "extra": {"pkd": {"weight": 3}, "cwd": {}}},
        )
    )

    parsed = RunSpec.model_validate_json(spec.model_dump_json())

    assert parsed == spec
    assert isinstance(parsed.student.backbone, EfficientNetLite)
    assert isinstance(parsed.student.head, RetinaHead)


def test_the_active_methods_are_the_chosen_one_and_the_extra_ones() -> None:
    spec = parse_spec(
        make_bckd_spec(distillation={"method": "bckd", "extra": {"pkd": {}, "ld": {}}})
    )

    assert {type(method) for method in iter_methods(spec.distillation)} == {Bckd, Pkd, Ld}


def test_an_old_spec_without_kinds_is_a_gfl_on_a_resnet() -> None:
    student = parse_spec(make_spec()).student

    assert (student.head.kind, student.backbone.kind) == ("gfl", "resnet")
    assert student.title == "GFL ResNet-18 x 0.25"


def test_a_resnet_and_an_fcos_are_written_as_before_there_were_others() -> None:
    head = {"kind": "fcos", "convs": 4, "channels": 32}
    student = {"backbone": {"depth": 50}, "head": head}
    spec = parse_spec(make_spec(student=student))

    assert isinstance(spec, RunSpec)
    document = spec.model_dump(mode="json")["student"]
    assert "style" not in document["backbone"]
    assert document["head"] == head


def test_an_fpn_is_written_as_before_there_were_other_pyramids() -> None:
    spec = parse_spec(make_spec())

    assert isinstance(spec, RunSpec)
    assert spec.model_dump(mode="json")["student"]["neck"] == {"channels": 256}
