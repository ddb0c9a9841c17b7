"""Bad input over HTTP: a problem that names the field, and nothing is created."""

from typing import Any

import pytest

from tests.support.factories import make_bckd_spec, make_detector_spec, make_spec
from tests.support.service.stage import Stage

NEGATIVE = {"method": "bckd", "cls_weight": -1.0}
BAD_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": (make_spec(optimiser="sgd"), "optimiser"),
    "an unknown field inside": (
        make_bckd_spec(distillation={"method": "bckd", "T": 2}),
        "distillation.T",
    ),
    "a negative weight": (make_bckd_spec(distillation=NEGATIVE), "distillation.cls_weight"),
    "weights that do nothing": (
        make_bckd_spec(distillation={"method": "bckd", "cls_weight": 0, "loc_weight": 0}),
        "distillation",
    ),
    "a method without a teacher": (make_spec(distillation={"method": "bckd"}), ""),
    "a teacher without a method": (make_spec(teacher={"name": "big"}), ""),
    "a dataset that does not exist": (
        make_spec(data={"dataset": {"name": "birds"}}),
        "data.dataset.name",
    ),
    "a dataset by its path": (make_spec(data={"dataset": {"root": "/etc"}}), "data.dataset.root"),
    "a teacher that does not exist": (make_bckd_spec(teacher={"name": "huge"}), "teacher.name"),
    "a teacher with other classes": (make_bckd_spec(teacher={"name": "birder"}), "teacher.name"),
    "a teacher run that does not exist": (
        make_bckd_spec(teacher={"run": "r" + "0" * 12}),
        "teacher.run",
    ),
    "CPUs that no node has": (make_spec(resources={"num_cpus": 64}), "resources.num_cpus"),
    "a GPU that no node has": (make_spec(resources={"num_gpus": 1}), "resources.num_gpus"),
    "no epochs": (make_spec(schedule={"epochs": 0}), "schedule.epochs"),
    "a number that is none": (make_spec(schedule={"epochs": "many"}), "schedule.epochs"),
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


def test_a_request_to_another_host_is_refused(stage: Stage) -> None:
    response = stage.http.get("/v1/runs", headers={"host": "rebound.example:8700"})

    assert response.status_code == 421
    assert response.json()["code"] == "other_host"


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


BAD_ROOTS = {
    "nothing there": "{home}/none",
    "a file": "{home}/tandem.db",
    "a null byte": "{home}/a\x00b",
    "a name without end": "{home}/" + "a" * 5000,
    "no user's home": "~nobody-at-all/x",
    "up and out": "{home}/../../../etc",
    "a relative path": "etc",
}


@pytest.mark.parametrize("root", BAD_ROOTS.values(), ids=BAD_ROOTS.keys())
@pytest.mark.parametrize("kind", ["datasets", "teachers"])
def test_a_path_that_cannot_be_used_is_refused(stage: Stage, kind: str, root: str) -> None:
    path = root.format(home=stage.home) if kind == "datasets" else f"{root}/x"
    path = path.format(home=stage.home)
    body: dict[str, Any] = {"root": path}
    if kind == "teachers":
        detector = make_detector_spec().model_dump(mode="json")
        body = {"name": "t", "checkpoint": path, "detector": detector, "classes": ["cat"]}

    response = stage.http.post(f"/v1/{kind}", json=body)

    assert response.status_code == 422
    assert response.json()["code"] == "path_refused"
    assert response.json()["errors"][0]["field"] == next(
        field for field in ("root", "checkpoint") if field in body
    )


def test_a_folder_is_no_checkpoint(stage: Stage) -> None:
    body = {
        "name": "t",
        "checkpoint": str(stage.home),
        "detector": make_detector_spec().model_dump(mode="json"),
        "classes": ["cat"],
    }

    response = stage.http.post("/v1/teachers", json=body)

    assert response.status_code == 422
    assert response.json()["code"] == "path_refused"


@pytest.mark.parametrize("manifest", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"name": "X Y"}'])
def test_an_invalid_manifest_is_refused(stage: Stage, manifest: bytes) -> None:
    root = stage.home / "datasets" / "odd"
    root.mkdir(parents=True)
    (root / "dataset.json").write_bytes(manifest)

    response = stage.http.post("/v1/datasets", json={"root": str(root)})

    assert response.status_code == 422
    assert response.json()["code"] == "path_refused"


RAW_BODIES = {
    "not a number": b'{"spec": {"seed": NaN}}',
    "infinity": b'{"spec": {"seed": 1e999}}',
    "half a character": b'{"preset": "\\ud800"}',
    "half a character in a spec": b'{"spec": {"tags": {"a": "\\ud800"}}}',
    "half a character as a key": b'{"spec": {"\\ud800": 1}}',
    "half a character in a change": b'{"preset": "quick/instant", "changes": {"\\ud800": 1}}',
    "no text at all": b"\xff\xfe\xfd",
    "a list": b"[]",
    "null": b"null",
    "a depth without end": b"[" * 100_000,
    "a deep spec": b'{"spec":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
    "a number without end": b'{"spec": {"seed": ' + b"9" * 5000 + b"}}",
    "a path through a list": b'{"preset": "quick/instant", "changes": {"data.image_size.x": 1}}',
    "an empty change": b'{"preset": "quick/instant", "changes": {"": 1}}',
    "dots alone": b'{"preset": "quick/instant", "changes": {"...": 1}}',
    "a preset that climbs": b'{"preset": "../../pyproject"}',
}


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs:plan"])
@pytest.mark.parametrize("body", RAW_BODIES.values(), ids=RAW_BODIES.keys())
def test_an_odd_body_is_a_problem_and_never_an_internal_error(
    stage: Stage, path: str, body: bytes
) -> None:
    response = stage.http.post(path, content=body, headers={"content-type": "application/json"})

    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"]
    assert stage.http.get("/v1/runs").json()["items"] == []


def test_an_endless_chunked_body_is_refused(stage: Stage) -> None:
    chunks = (b" " * 1024 * 1024 for _ in range(9))

    response = stage.http.post(
        "/v1/runs", content=chunks, headers={"content-type": "application/json"}
    )

    assert response.status_code == 413
    assert response.json()["code"] == "body_too_large"


def test_a_wrong_method_is_a_problem_that_names_the_right_ones(stage: Stage) -> None:
    response = stage.http.delete("/v1/runs")

    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["allow"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "state=odd", "tag=nothing", "cursor=r1", "limit=99999999999999"]
)
def test_a_bad_query_is_a_problem(stage: Stage, query: str) -> None:
    response = stage.http.get(f"/v1/runs?{query}")

    assert response.status_code in (404, 422)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("records", [[{"kind": "odd"}], [{"kind": "metrics"}], "x"])
def test_an_invalid_delivery_is_refused(stage: Stage, records: Any) -> None:
    stage.add_dataset()
    run_id = stage.launch(spec=make_spec())["id"]
    stage.run_loops()

    response = stage.http.post(
        f"/v1/runs/{run_id}/attempts/1/deliveries", json={"first": 0, "records": records}
    )

    assert response.status_code == 422
    assert stage.run(run_id)["state"] == "starting"


def test_an_internal_error_reveals_no_secrets(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr(stage.app.state, "scrape", fail)

    response = stage.http.get("/metrics")

    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert "1234" not in response.text


def test_an_error_of_the_health_check_reveals_no_secrets(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr(stage.cluster, "nodes", fail)

    response = stage.http.get("/readyz")

    assert response.json()["status"] == "degraded"
    assert "internal error (RuntimeError)" in response.text
    assert "1234" not in response.text
