"""The identity of a run, and the differences to another one."""

import json
from typing import Any, cast

import pytest

from configs.catalog import parse_spec
from configs.spec.references import TeacherFiles
from tests.support.factories import (
    CLASSES,
    make_bckd_spec,
    make_detector_spec,
    make_manifest,
    make_spec,
)
from workers.errors import ResumeRefused
from workers.training.resume import find_differences, resume_runner, run_identity

TEACHER = "a" * 64


UNLABELLED = make_spec()["data"] | {
    "unlabelled": {"dataset": {"name": "photos"}, "images_per_batch": 4}
}


def make_identity(
    *, teacher_sha256: str = TEACHER, digest: str = "0" * 64, **changes: Any
) -> dict[str, Any]:
    spec = parse_spec(make_bckd_spec(**changes))
    files = TeacherFiles(
        checkpoint=f"/{teacher_sha256[:4]}.pth",
        sha256=teacher_sha256,
        detector=make_detector_spec(),
        classes=CLASSES,
    )
    dataset = make_manifest().model_copy(update={"digest": digest})
    return run_identity(
        spec.model_copy(update={"teacher": files}), dataset=dataset, teacher_sha256=teacher_sha256
    )


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"teacher_sha256": "b" * 64}, f"teacher: {TEACHER}, now {'b' * 64}"),
        ({"digest": "1" * 64}, f"dataset: {'0' * 64}, now {'1' * 64}"),
        ({"seed": 3}, "spec.seed: 0, now 3"),
        (
            {"distillation": {"method": "bckd", "loc_weight": 2.0}},
            "spec.distillation.loc_weight: 4.0, now 2.0",
        ),
        ({"compute": {"precision": "bf16"}}, "spec.compute.precision: fp32, now bf16"),
    ],
    ids=["teacher", "dataset", "seed", "weight", "precision"],
)
def test_the_checkpoint_of_another_run_is_refused_with_the_difference(
    changes: dict[str, Any], difference: str
) -> None:
    assert list(find_differences(make_identity(), make_identity(**changes))) == [difference]


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": {"num_cpus": 8, "processes": 2}},
        {"checkpoints": {"keep_last": 9}},
        {"tags": {"mood": "good"}},
        {"evaluation": {"pictures": 0}},
    ],
)
def test_fields_without_influence_on_results_may_change(changes: dict[str, Any]) -> None:
    assert list(find_differences(make_identity(), make_identity(**changes))) == []


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"evaluation": {"max_detections": 300}}, "evaluation.max_detections: 300, now 100"),
        (
            {"data": make_spec()["data"] | {"mosaic": {"stop_epochs": 1}}},
            "data.mosaic: {'stop_epochs': 1, ",
        ),
        ({"schedule": {"epochs": 2, "ema": {}}}, "schedule.ema: {'decay': 0.9998, "),
        ({"data": UNLABELLED}, "data.unlabelled: {'images_per_batch': 4}, now None"),
    ],
)
def test_another_value_of_a_later_field_is_another_run_and_no_other_version(
    changes: dict[str, Any], difference: str
) -> None:
    before, now = make_identity(**changes), make_identity()
    checkpoint = {"meta": {"identity": json.dumps(before)}}

    with pytest.raises(ResumeRefused) as refused:
        resume_runner(cast("Any", None), checkpoint, identity=now)

    assert f"spec.{difference}" in str(refused.value)
