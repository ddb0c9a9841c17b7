"""Bad input over HTTP: a problem that names the field, and nothing is created."""

from typing import Any

import pytest

from tests.conftest import Stage
from tests.factories import a_bckd_spec, a_spec

NEGATIVE = {"method": "bckd", "cls_weight": -1.0}
BAD_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": (a_spec(optimiser="sgd"), "optimiser"),
    "an unknown field inside": (
        a_bckd_spec(distillation={"method": "bckd", "T": 2}),
        "distillation.T",
    ),
    "a negative weight": (a_bckd_spec(distillation=NEGATIVE), "distillation.cls_weight"),
    "weights that do nothing": (
        a_bckd_spec(distillation={"method": "bckd", "cls_weight": 0, "loc_weight": 0}),
        "distillation",
    ),
    "a method without a teacher": (a_spec(distillation={"method": "bckd"}), ""),
    "a teacher without a method": (a_spec(teacher={"name": "big"}), ""),
    "a dataset that does not exist": (
        a_spec(data={"dataset": {"name": "birds"}}),
        "data.dataset.name",
    ),
    "a dataset by its path": (a_spec(data={"dataset": {"root": "/etc"}}), "data.dataset.root"),
    "a teacher that does not exist": (a_bckd_spec(teacher={"name": "huge"}), "teacher.name"),
    "a teacher with other classes": (a_bckd_spec(teacher={"name": "birder"}), "teacher.name"),
    "a teacher run that does not exist": (
        a_bckd_spec(teacher={"run": "r" + "0" * 12}),
        "teacher.run",
    ),
    "CPUs that no node has": (a_spec(resources={"num_cpus": 64}), "resources.num_cpus"),
    "a GPU that no node has": (a_spec(resources={"num_gpus": 1}), "resources.num_gpus"),
    "no epochs": (a_spec(schedule={"epochs": 0}), "schedule.epochs"),
    "a number that is none": (a_spec(schedule={"epochs": "many"}), "schedule.epochs"),
}


@pytest.mark.parametrize(("spec", "field"), BAD_SPECS.values(), ids=BAD_SPECS.keys())
def test_a_bad_spec_is_refused_with_its_field_and_creates_nothing(
    stage: Stage, spec: dict[str, Any], field: str
) -> None:
    stage.add_dataset()
    stage.add_teacher()
    stage.add_teacher("birder", classes=("bird",))

    response = stage.http.post("/v1/runs", json={"spec": spec})

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == "spec_refused"
    assert field in {error["field"] for error in problem["errors"]}
    assert stage.http.get("/v1/runs").json()["items"] == []


BAD_BODIES: dict[str, tuple[Any, str]] = {
    "an unknown preset": ({"preset": "digits/magic"}, "preset"),
    "an unknown field": ({"presett": "digits/bckd"}, "presett"),
    "an unknown change": (
        {"preset": "quick/instant", "changes": {"schedule.epoch": 1}},
        "schedule.epoch",
    ),
    "a change of a plain value's field": (
        {"preset": "quick/instant", "changes": {"schedule.epochs.x": 1}},
        "schedule.epochs.x",
    ),
    "both preset and spec": ({"preset": "quick/instant", "spec": {}}, ""),
    "neither preset nor spec": ({}, ""),
}


@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_refused_with_its_field(stage: Stage, body: Any, field: str) -> None:
    response = stage.http.post("/v1/runs", json=body)

    assert response.status_code == 422
    assert field in {error["field"] for error in response.json()["errors"]}
    assert stage.http.get("/v1/runs").json()["items"] == []


def test_a_body_that_is_no_json_is_a_problem(stage: Stage) -> None:
    response = stage.http.post(
        "/v1/runs", content=b"{", headers={"content-type": "application/json"}
    )

    assert response.status_code == 422
    assert response.json()["code"] == "invalid_request"


def test_a_body_without_end_is_refused(stage: Stage) -> None:
    response = stage.http.post("/v1/runs", content=b" " * (9 * 1024 * 1024))

    assert response.status_code == 413


def test_what_does_not_exist_is_a_404_problem(stage: Stage) -> None:
    for path in ("/v1/runs/r1", "/v1/datasets/none", "/v1/teachers/none", "/v1/nothing"):
        response = stage.http.get(path)

        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


def test_a_folder_outside_of_the_roots_is_refused(stage: Stage) -> None:
    response = stage.http.post("/v1/datasets", json={"root": "/etc"})

    assert response.status_code == 422
    assert response.json()["code"] == "path_refused"
    assert response.json()["errors"][0]["field"] == "root"


def test_a_link_out_of_the_roots_is_refused(stage: Stage) -> None:
    (stage.home / "sly").symlink_to("/etc")

    response = stage.http.post("/v1/datasets", json={"root": str(stage.home / "sly")})

    assert response.status_code == 422
