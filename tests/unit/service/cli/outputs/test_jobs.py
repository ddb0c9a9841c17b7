"""Output of evaluations and exports."""

from typing import Any

from pydantic import BaseModel

from service.api.schemas.run_lists import RunPage
from service.domain.states import RunState
from tests.support.cli.outputs import CommandLine
from tests.support.cli.runs import MLFLOW_URL, RUN_ID, TIMES
from tests.support.service.run_views import make_run_summary, make_run_view

JOB_ID = "re0a1000000ab"
EVALUATE = ("evaluate", RUN_ID, "--data", "digits-tiny")
EXPORT = ("export", RUN_ID, "--format", "onnx")
METRICS = {
    "val/bbox_mAP": 0.4512,
    "val/bbox_mAP_50": 0.7034,
    "val/bbox_mAP_l": -1.0,
    "val/bbox_AR_100": 0.512,
    "inference/images_per_s": 93.456,
}


def make_api(endpoint: str, **changes: Any) -> dict[str, BaseModel | list[BaseModel]]:
    name = f"{endpoint.removesuffix('s')} of {RUN_ID}"
    launched = make_run_view(RunState.QUEUED, id=JOB_ID, name=name, task="evaluate")
    ended = make_run_view(
        RunState.SUCCEEDED,
        id=JOB_ID,
        name=name,
        task="evaluate",
        mlflow_url=MLFLOW_URL,
        **(TIMES | changes),
    )
    return {
        "GET /v1/teachers": [],
        "GET /v1/runs": RunPage(items=[make_run_summary(id=RUN_ID)], next_cursor=None),
        f"POST /v1/{endpoint}": launched,
        f"GET /v1/runs/{JOB_ID}": ended,
    }


def test_an_evaluation_is_not_waited_for(command_line: CommandLine) -> None:
    command_line.check("evaluate", *EVALUATE, api=make_api("evaluations"))


def test_a_watched_evaluation_ends_with_its_metrics(command_line: CommandLine) -> None:
    api = make_api("evaluations", latest=METRICS)

    outputs = command_line.check("evaluate_watch", *EVALUATE, "--watch", api=api)

    assert outputs["pipe"].text.splitlines()[-1] == f"MLflow: {MLFLOW_URL}"


def test_a_watched_export_says_where_its_files_are(command_line: CommandLine) -> None:
    command_line.check("export_watch", *EXPORT, "--watch", api=make_api("exports"))


def test_jobs_as_json(command_line: CommandLine) -> None:
    api = make_api("evaluations", latest=METRICS)

    assert command_line.read_json(*EVALUATE, api=api)["state"] == "queued"
    assert command_line.read_json(*EVALUATE, "--watch", api=api)["latest"] == METRICS
    assert command_line.read_json(*EXPORT, api=make_api("exports"))["id"] == JOB_ID
