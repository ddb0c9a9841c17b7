"""Evaluations and exports: runs that do not train, through the API and to a job's command line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.protocol.names import RunFile
from configs.spec.run import RunSpec
from service.api.schemas.runs import EvaluationRequest, ExportRequest
from service.client import TandemClient
from service.domain.states import RunState
from tests.support.factories import make_spec
from tests.support.service.stage import ON_BOTH_DATABASES, Stage

SIZE = [96, 96]


def make_teacher_request(**changes: Any) -> dict[str, Any]:
    data = {"dataset": {"name": "pets"}, "image_size": SIZE}
    return {"model": {"name": "big"}, "data": data} | changes


def train_and_finish_run(stage: Stage, **changes: Any) -> str:
    """Let a run succeed and write its best checkpoint."""
    stage.add_dataset()
    run_id = str(stage.launch(spec=make_spec(**changes))["id"])
    best = stage.home / "runs" / run_id / RunFile.BEST
    best.parent.mkdir(parents=True, exist_ok=True)
    best.write_bytes(b"weights")
    with stage.ctx.store.transaction() as uow:
        uow.runs.save(replace(uow.runs.get(run_id), state=RunState.SUCCEEDED))
    return run_id


def read_command(stage: Stage, run_id: str) -> list[str]:
    stage.run_loops()
    return list(stage.cluster.job_requests[f"{run_id}-a1"].command)


def read_spec(stage: Stage, run_id: str) -> dict[str, Any]:
    return dict(json.loads((stage.home / "runs" / run_id / RunFile.SPEC).read_text()))


def test_an_evaluation_of_a_teacher_becomes_a_job_with_files_for_names(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()

    response = stage.http.post("/v1/evaluations", json=make_teacher_request(name="how good"))

    evaluation = response.json()
    assert response.status_code == 201
    assert (evaluation["task"], evaluation["name"]) == ("evaluate", "how good")
    assert read_command(stage, evaluation["id"])[:2] == ["tandem-worker", "evaluate"]
    resolved = read_spec(stage, evaluation["id"])
    assert Path(resolved["model"]["checkpoint"]).name == "big.pth"
    assert resolved["data"]["dataset"]["root"].endswith("pets")


def test_an_evaluation_of_a_run_takes_its_best_checkpoint_and_its_image_size(stage: Stage) -> None:
    run_id = train_and_finish_run(stage)
    request = {"model": {"run": run_id}, "data": {"dataset": {"name": "pets"}}}

    evaluation = stage.http.post("/v1/evaluations", json=request).json()
    stage.run_loops()

    resolved = read_spec(stage, evaluation["id"])
    assert resolved["model"]["checkpoint"].endswith(f"{run_id}/checkpoints/best.pth")
    assert len(resolved["model"]["sha256"]) == 64
    assert resolved["data"]["image_size"] == make_spec()["data"]["image_size"]
    assert "max_detections" not in resolved["data"]


def test_an_export_takes_what_it_leaves_open_from_the_models_run(stage: Stage) -> None:
    run_id = train_and_finish_run(stage)

    export = stage.http.post("/v1/exports", json={"model": {"run": run_id}}).json()

    assert read_command(stage, export["id"])[:2] == ["tandem-worker", "export"]
    resolved = read_spec(stage, export["id"])
    assert resolved["image_size"] == make_spec()["data"]["image_size"]
    assert resolved["dataset"]["root"].endswith("pets")


@pytest.mark.parametrize("own", [None, 50])
def test_jobs_count_the_detections_that_the_models_run_counted(
    stage: Stage, own: int | None
) -> None:
    run_id = train_and_finish_run(stage, evaluation={"max_detections": 300})
    model = {"run": run_id}
    data = {"dataset": {"name": "pets"}, "max_detections": own}
    requests = {
        "evaluations": {"model": model, "data": data},
        "exports": {"model": model, "max_detections": own},
    }

    jobs = [stage.http.post(f"/v1/{kind}", json=body).json() for kind, body in requests.items()]
    stage.run_loops()

    evaluation, export = (read_spec(stage, job["id"]) for job in jobs)
    assert evaluation["data"]["max_detections"] == export["max_detections"] == (own or 300)


def test_a_job_waits_for_the_run_that_makes_its_model(stage: Stage) -> None:
    stage.add_dataset()
    run_id = stage.launch(spec=make_spec())["id"]
    request = {"model": {"run": run_id}, "data": {"dataset": {"name": "pets"}}}

    evaluation = stage.http.post("/v1/evaluations", json=request).json()
    stage.run_loops()

    assert stage.run(evaluation["id"])["waiting_for"] == f"its model, run {run_id}"


@ON_BOTH_DATABASES
def test_evaluations_and_exports_are_listed_apart_and_all_are_runs(stage: Stage) -> None:
    run_id = train_and_finish_run(stage)
    stage.add_teacher()
    evaluation = stage.http.post("/v1/evaluations", json=make_teacher_request()).json()["id"]
    export = stage.http.post("/v1/exports", json={"model": {"run": run_id}}).json()["id"]

    def list_ids(path: str, **params: str) -> list[str]:
        return [item["id"] for item in stage.http.get(path, params=params).json()["items"]]

    assert list_ids("/v1/evaluations") == [evaluation]
    assert list_ids("/v1/exports") == [export]
    assert list_ids("/v1/runs") == [export, evaluation, run_id]
    assert list_ids("/v1/runs", task="train") == [run_id]
    assert stage.http.get(f"/v1/evaluations/{evaluation}").json()["id"] == evaluation
    assert stage.http.get(f"/v1/evaluations/{run_id}").status_code == 404
    assert stage.http.get(f"/v1/exports/{evaluation}").status_code == 404


def test_the_same_key_is_the_same_evaluation_and_of_another_request_refused(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    key = {"Idempotency-Key": "once"}

    first = stage.http.post("/v1/evaluations", json=make_teacher_request(), headers=key)
    second = stage.http.post("/v1/evaluations", json=make_teacher_request(), headers=key)
    other = stage.http.post("/v1/evaluations", json=make_teacher_request(name="other"), headers=key)

    assert (first.status_code, second.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == second.json()["id"]


INVALID_REQUESTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no such teacher": ("evaluations", make_teacher_request(model={"name": "none"}), "model.name"),
    "no such run": (
        "evaluations",
        make_teacher_request(model={"run": "r" + "0" * 12}),
        "model.run",
    ),
    "no such dataset": (
        "evaluations",
        make_teacher_request(data={"dataset": {"name": "none"}, "image_size": SIZE}),
        "data.dataset.name",
    ),
    "no image size": (
        "evaluations",
        make_teacher_request(data={"dataset": {"name": "pets"}}),
        "data.image_size",
    ),
    "a path": (
        "evaluations",
        make_teacher_request(
            model={
                "checkpoint": "/etc/passwd",
                "detector": {"backbone": {"depth": 18}},
                "classes": ["cat"],
            }
        ),
        "model.checkpoint",
    ),
    "an unknown field": ("evaluations", make_teacher_request(iou=0.5), "iou"),
    "no model": ("exports", {}, "model"),
    "no dataset to compare on": ("exports", {"model": {"name": "big"}}, "dataset"),
    "a format that is none": (
        "exports",
        {"model": {"name": "big"}, "formats": ["tflite"]},
        "formats.0",
    ),
    "more cores than there are": (
        "evaluations",
        make_teacher_request(resources={"num_cpus": 200}),
        "resources.num_cpus",
    ),
}


@pytest.mark.parametrize(("path", "body", "field"), INVALID_REQUESTS.values(), ids=INVALID_REQUESTS)
def test_bad_input_is_a_problem_that_names_its_field(
    stage: Stage, path: str, body: dict[str, Any], field: str
) -> None:
    stage.add_dataset()
    stage.add_teacher()

    response = stage.http.post(f"/v1/{path}", json=body)

    assert response.status_code == 422, response.text
    assert field in [error["field"] for error in response.json()["errors"]]
    assert stage.http.get("/v1/runs").json()["items"] == []


def test_other_classes_are_refused(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher(classes=("bird",))

    response = stage.http.post("/v1/evaluations", json=make_teacher_request())

    assert response.status_code == 422
    assert "both must be the same" in response.text


def test_an_evaluation_makes_no_detector_that_could_be_evaluated(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    evaluation = stage.http.post("/v1/evaluations", json=make_teacher_request()).json()["id"]

    response = stage.http.post(
        "/v1/evaluations", json=make_teacher_request(model={"run": evaluation})
    )

    assert response.status_code == 422
    assert "does not train" in response.text


def test_the_typed_client_launches_both(stage: Stage) -> None:
    run_id = train_and_finish_run(stage)
    stage.add_teacher()

    with TandemClient("http://localhost", transport=stage.transport) as client:
        evaluation = client.evaluate(EvaluationRequest.model_validate(make_teacher_request()))
        export = client.export(ExportRequest.model_validate({"model": {"run": run_id}}))

        assert not isinstance(client.run(evaluation.id).spec, RunSpec)
        assert export.task == "export"
