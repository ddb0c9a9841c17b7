"""The dry run: every finding, from facts without other systems."""

from pathlib import Path
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.spec.dataset import ClassNames
from configs.spec.detector import Detector
from service.adapters.clock import FixedClock
from service.domain.planning.findings import Facts, list_errors
from service.domain.planning.plan import make_plan
from service.domain.ports import Node
from service.domain.registry import RegisteredDataset, RegisteredTeacher
from service.domain.states import RunState
from tests.support.factories import (
    CLASSES,
    NO_HASH,
    make_bckd_spec,
    make_detector_spec,
    make_images_manifest,
    make_manifest,
    make_run,
    make_spec,
)

NOW = FixedClock().now()
ROOT = Path("/somewhere")
RUN = "r" + "0" * 12
TWO_CPUS = (Node(2.0, 0.0, 0.0, 0.0),)
GPU_SPEC = make_spec(
    data=make_spec()["data"] | {"num_workers": 4},
    compute={"precision": "tf32"},
    resources={"num_gpus": 1, "num_cpus": 4},
)
ONE_GPU = (Node(8.0, 1.0, 8.0, 1.0),)


def make_dataset(**changes: Any) -> RegisteredDataset:
    manifest = make_manifest(**changes)
    return RegisteredDataset("pets", ROOT, manifest, NOW)


def make_teacher(
    classes: ClassNames = CLASSES, detector: Detector | None = None
) -> RegisteredTeacher:
    return RegisteredTeacher(
        name="big",
        checkpoint=ROOT / "big.pth",
        sha256=NO_HASH,
        detector=detector or make_detector_spec(),
        classes=classes,
        measured_map=None,
        source="",
        registered_at=NOW,
    )


def list_codes(spec: dict[str, Any], facts: Facts) -> list[tuple[str, str]]:
    plan = make_plan(parse_spec(spec), facts)
    return [(finding.field, finding.code) for finding in plan.findings]


def test_nothing_stands_against_a_spec_whose_things_are_there() -> None:
    facts = Facts(dataset=make_dataset(), teacher=make_teacher(), nodes=TWO_CPUS)

    plan = make_plan(parse_spec(make_bckd_spec()), facts)

    assert plan.findings == ()
    assert plan.waiting_for is None


FINDINGS: dict[str, tuple[dict[str, Any], Facts, tuple[str, str]]] = {
    "a dataset without labels": (
        make_spec(),
        Facts(
            dataset=RegisteredDataset("photos", ROOT, make_images_manifest(), NOW), nodes=TWO_CPUS
        ),
        ("data.dataset.name", "dataset_without_labels"),
    ),
    "no dataset": (
        make_spec(),
        Facts(nodes=TWO_CPUS),
        ("data.dataset.name", "dataset_not_found"),
    ),
    "a dataset by its path": (
        make_spec(data={"dataset": {"root": "/data"}}),
        Facts(nodes=TWO_CPUS),
        ("data.dataset.root", "not_by_path"),
    ),
    "no teacher": (
        make_bckd_spec(),
        Facts(dataset=make_dataset(), nodes=TWO_CPUS),
        ("teacher.name", "teacher_not_found"),
    ),
    "a teacher by its path": (
        make_bckd_spec(
            teacher={
                "checkpoint": "/t.pth",
                "detector": make_detector_spec().model_dump(mode="json"),
                "classes": list(CLASSES),
            }
        ),
        Facts(dataset=make_dataset(), nodes=TWO_CPUS),
        ("teacher.checkpoint", "not_by_path"),
    ),
    "a teacher with other classes": (
        make_bckd_spec(),
        Facts(dataset=make_dataset(), teacher=make_teacher(("bird",)), nodes=TWO_CPUS),
        ("teacher.name", "teacher_classes_differ"),
    ),
    "a teacher with the classes in another order": (
        make_bckd_spec(),
        Facts(dataset=make_dataset(), teacher=make_teacher(CLASSES[::-1]), nodes=TWO_CPUS),
        ("teacher.name", "teacher_classes_differ"),
    ),
    "no teacher run": (
        make_bckd_spec(teacher={"run": RUN}),
        Facts(dataset=make_dataset(), nodes=TWO_CPUS),
        ("teacher.run", "run_not_found"),
    ),
    "a teacher run that failed": (
        make_bckd_spec(teacher={"run": RUN}),
        Facts(dataset=make_dataset(), teacher_run=make_run(state=RunState.FAILED), nodes=TWO_CPUS),
        ("teacher.run", "teacher_run_failed"),
    ),
    "a teacher run with other classes": (
        make_bckd_spec(teacher={"run": RUN}),
        Facts(
            dataset=make_dataset(),
            teacher_run=make_run(),
            teacher_run_classes=("bird",),
            nodes=TWO_CPUS,
        ),
        ("teacher.run", "teacher_classes_differ"),
    ),
    "more CPUs than any node has": (
        make_spec(resources={"num_cpus": 3}),
        Facts(dataset=make_dataset(), nodes=TWO_CPUS * 2),
        ("resources.num_cpus", "resources_infeasible"),
    ),
    "a GPU where there is none": (
        GPU_SPEC,
        Facts(dataset=make_dataset(), nodes=TWO_CPUS),
        ("resources.num_gpus", "resources_infeasible"),
    ),
    "more processes than the nodes have room for": (
        make_spec(resources={"processes": 4}),
        Facts(dataset=make_dataset(), nodes=(Node(3.0, 0.0, 0.0, 0.0),)),
        ("resources.processes", "resources_infeasible"),
    ),
    "processes of which none finds room": (
        make_spec(resources={"processes": 2, "num_cpus": 3}),
        Facts(dataset=make_dataset(), nodes=TWO_CPUS * 2),
        ("resources.num_cpus", "resources_infeasible"),
    ),
    "a cluster of which nothing is known": (
        GPU_SPEC,
        Facts(dataset=make_dataset(), nodes=None),
        ("resources", "cluster_unreachable"),
    ),
}


@pytest.mark.parametrize(("spec", "facts", "expected"), FINDINGS.values(), ids=FINDINGS.keys())
def test_a_finding_names_the_field_and_the_cause(
    spec: dict[str, Any], facts: Facts, expected: tuple[str, str]
) -> None:
    assert list_codes(spec, facts) == [expected]


def make_tiny_spec(*, image_size: int = 32, batch_size: int = 1, **changes: Any) -> dict[str, Any]:
    data = make_spec()["data"] | {"image_size": [image_size] * 2, "batch_size": batch_size}
    return make_spec(data=data, **changes)


def test_a_batch_of_one_pixel_is_an_error() -> None:
    facts = Facts(dataset=make_dataset(), nodes=TWO_CPUS * 2)
    finding = ("data.batch_size", "batch_too_small")

    assert list_codes(make_tiny_spec(), facts) == [finding]
    assert list_codes(make_tiny_spec(batch_size=2, resources={"processes": 2}), facts) == [finding]
    assert list_codes(make_tiny_spec(batch_size=2), facts) == []
    assert list_codes(make_tiny_spec(image_size=64), facts) == []

    head = {"backbone": {"kind": "swin"}, "head": {"kind": "yolox"}}
    assert list_codes(make_tiny_spec(student=head), facts) == [finding]


@pytest.mark.parametrize(
    "backbone",
    [
        {"kind": "resnet", "depth": 18, "norm_eval": True},
        {"kind": "resnet", "depth": 18, "frozen_stages": 4},
        {"kind": "swin"},
    ],
    ids=["fixed", "frozen", "layer normalization"],
)
def test_a_batch_of_one_pixel_is_enough_without_batch_normalization(
    backbone: dict[str, Any],
) -> None:
    spec = make_tiny_spec(student=make_spec()["student"] | {"backbone": backbone})

    assert list_codes(spec, Facts(dataset=make_dataset(), nodes=TWO_CPUS)) == []


DISAPPOINTMENTS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "few processes load images": (
        GPU_SPEC | {"data": make_spec()["data"]},
        ("data.num_workers", "too_few_loader_workers"),
    ),
    "more processes load images than there are cores": (
        GPU_SPEC | {"resources": {"num_gpus": 1}},
        ("resources.num_cpus", "more_loader_workers_than_cpus"),
    ),
    "fp32 leaves the tensor cores idle": (
        GPU_SPEC | {"compute": {}},
        ("compute.precision", "fp32_without_tensor_cores"),
    ),
    "VFNet's head stays in fp32": (
        GPU_SPEC
        | {
            "compute": {"precision": "bf16"},
            "student": make_spec()["student"] | {"head": {"kind": "vfnet"}},
        },
        ("compute.precision", "head_stays_fp32"),
    ),
    "TOOD's head stays in fp32": (
        GPU_SPEC
        | {
            "compute": {"precision": "bf16"},
            "student": make_spec()["student"] | {"head": {"kind": "tood", "initial_epochs": 0}},
        },
        ("compute.precision", "head_stays_fp32"),
    ),
}


@pytest.mark.parametrize(("spec", "warning"), DISAPPOINTMENTS.values(), ids=DISAPPOINTMENTS.keys())
def test_a_gpu_that_would_be_used_badly_is_a_warning(
    spec: dict[str, Any], warning: tuple[str, str]
) -> None:
    plan = make_plan(parse_spec(spec), Facts(dataset=make_dataset(), nodes=ONE_GPU))

    assert [(finding.field, finding.code) for finding in plan.findings] == [warning]
    assert list_errors(plan.findings) == []


def test_a_gpu_that_is_used_well_is_no_finding() -> None:
    assert list_codes(GPU_SPEC, Facts(dataset=make_dataset(), nodes=ONE_GPU)) == []


def test_processes_are_counted_over_the_nodes_and_all_are_required_at_first() -> None:
    spec = parse_spec(make_spec(resources={"processes": 4, "min_processes": 2}))

    plan = make_plan(spec, Facts(dataset=make_dataset(), nodes=TWO_CPUS * 2))
    (finding,) = make_plan(spec, Facts(dataset=make_dataset(), nodes=TWO_CPUS)).findings

    assert plan.findings == ()
    assert "4 processes with 1 CPUs and 0 GPUs each" in finding.message
    assert "room for 2" in finding.message


def test_a_cluster_that_does_not_answer_keeps_nobody_from_launching() -> None:
    plan = make_plan(parse_spec(make_spec()), Facts(dataset=make_dataset()))

    assert [finding.severity for finding in plan.findings] == ["warning"]
    assert list_errors(plan.findings) == []


@pytest.mark.parametrize("state", RunState)
def test_a_student_waits_for_its_teacher_until_that_has_succeeded(state: RunState) -> None:
    facts = Facts(dataset=make_dataset(), teacher_run=make_run(state=state), nodes=TWO_CPUS)

    plan = make_plan(parse_spec(make_bckd_spec(teacher={"run": RUN})), facts)

    assert plan.waiting_for == (None if state is RunState.SUCCEEDED else RUN)
    assert bool(list_errors(plan.findings)) is (state in (RunState.FAILED, RunState.CANCELLED))


PAIRS = {
    "anchors": ({"kind": "retina"}, {"method": "bckd"}, "anchors_differ"),
    "no distributions": ({"kind": "atss"}, {"method": "ld"}, "no_edge_distributions"),
    "reg_max": ({"reg_max": 8}, {"method": "ld"}, "reg_max_differs"),
    "kinds": ({"kind": "atss"}, {"method": "crosskd"}, "heads_differ"),
    "too few convolutions": ({"convs": 2}, {"method": "crosskd"}, "after_convs_too_large"),
    "assigners": ({"kind": "fcos"}, {"method": "bckd"}, "assigners_differ"),
    "levels": ({"kind": "yolox"}, {"method": "pkd"}, "strides_differ"),
}


@pytest.mark.parametrize(("head", "method", "code"), PAIRS.values(), ids=PAIRS)
def test_a_pair_that_cannot_be_compared_says_why_not(
    head: dict[str, Any], method: dict[str, Any], code: str
) -> None:
    teacher = Detector.model_validate({"backbone": {"depth": 34}, "head": head})
    facts = Facts(dataset=make_dataset(), teacher=make_teacher(detector=teacher), nodes=TWO_CPUS)

    found_codes = list_codes(make_bckd_spec(distillation=method), facts)

    assert ("teacher.name", code) in found_codes


@pytest.mark.parametrize("part", ["neck", "head"])
def test_a_part_that_cannot_be_inherited_is_an_error_before_the_launch(part: str) -> None:
    teacher = Detector.model_validate({"backbone": {"depth": 34}, part: {"channels": 128}})
    facts = Facts(dataset=make_dataset(), teacher=make_teacher(detector=teacher), nodes=TWO_CPUS)
    student = make_spec()["student"]

    assert list_codes(make_bckd_spec(), facts) == []
    assert list_codes(make_bckd_spec(student=student | {"inherit": [part]}), facts) == [
        ("teacher.name", "nothing_to_inherit")
    ]


def test_images_that_are_normalized_otherwise_are_an_error() -> None:
    teacher = Detector.model_validate({"backbone": {"depth": 34}, "normalize": "caffe"})
    facts = Facts(dataset=make_dataset(), teacher=make_teacher(detector=teacher), nodes=TWO_CPUS)

    assert list_codes(make_bckd_spec(), facts) == [("teacher.name", "normalization_differs")]


def test_methods_on_features_need_no_agreement_of_heads() -> None:
    teacher = Detector.model_validate({"backbone": {"depth": 34}, "head": {"kind": "retina"}})
    facts = Facts(dataset=make_dataset(), teacher=make_teacher(detector=teacher), nodes=TWO_CPUS)

    plan = make_plan(parse_spec(make_bckd_spec(distillation={"method": "pkd"})), facts)

    assert list_errors(plan.findings) == []


def test_a_teacher_with_more_classes_is_matched_by_name_when_asked() -> None:
    more = ("bird", *reversed(CLASSES))
    facts = Facts(dataset=make_dataset(), teacher=make_teacher(classes=more), nodes=TWO_CPUS)

    assert list_codes(make_bckd_spec(), facts) == [("teacher.name", "teacher_classes_differ")]
    assert list_codes(make_bckd_spec(teacher_classes="by_name"), facts) == []


def test_a_class_that_no_name_matches_is_named() -> None:
    facts = Facts(dataset=make_dataset(), teacher=make_teacher(classes=("dog",)), nodes=TWO_CPUS)

    plan = make_plan(parse_spec(make_bckd_spec(teacher_classes="by_name")), facts)
    errors = list_errors(plan.findings)

    assert [error.code for error in errors] == ["teacher_classes_missing"]
    assert "cat" in errors[0].message
