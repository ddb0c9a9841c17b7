"""A training run on the real stack: REST, Ray and MLflow, with every process killed once."""

import os
import signal

import psutil
import pytest
from mlflow import MlflowClient

from configs.metric_keys import Metric
from configs.protocol.names import RunFile, Tag
from service.api.schemas.runs import RunRequest, RunView
from service.client import TandemClient
from service.client_transport import TandemApiError
from service.domain.states import RunState
from tests.support.stack.e2e_runs import (
    TIMEOUT_S,
    assert_steps_are_complete,
    find_trainer,
    wait_for,
)
from tests.support.stack.mlflow_runs import find_mlflow_run, read_mlflow_status
from tests.support.stack.shell import Shell
from tests.support.training.runs import has_epoch

pytestmark = pytest.mark.e2e


def test_a_run_goes_from_rest_to_mlflow(
    shell: Shell, client: TandemClient, trained_run: RunView
) -> None:
    run_id = trained_run.id
    assert trained_run.best_map is not None
    wait_for(lambda: read_mlflow_status(shell.mlflow_url, run_id) == "FINISHED")
    tracked = find_mlflow_run(shell.mlflow_url, run_id)
    assert tracked.data.metrics[Metric.MAP] == pytest.approx(trained_run.latest[Metric.MAP])
    assert tracked.data.params["schedule.epochs"] == "2"
    assert tracked.inputs is not None
    assert tracked.inputs.dataset_inputs[0].dataset.name == "digits-tiny"
    assert_steps_are_complete(shell, client, trained_run, epochs=2)
    files = list_artifacts(shell, tracked.info.run_id)
    assert {"checkpoints/best.pth", "checkpoints/last.pth", "config.py"} <= files
    assert "pictures/overview.png" in files


def test_a_service_killed_in_the_middle_finds_its_run_again(
    shell: Shell, client: TandemClient
) -> None:
    changes = {"schedule.epochs": 4}
    run = client.launch(RunRequest(preset="quick/instant", changes=changes))
    spool = shell.home / "runs" / run.id / RunFile.SPOOL
    # The file and not the service, which says so when most of so short a run is over.
    wait_for(lambda: spool.exists() and Metric.LOSS in spool.read_text(), interval_s=0.01)

    os.kill(shell.components()["service"]["pid"], signal.SIGKILL)
    size = spool.stat().st_size
    wait_for(lambda: spool.stat().st_size > size + 1000)  # It trains on without the service.
    shell.run("up")
    ended = client.wait(run.id, timeout_s=TIMEOUT_S)

    assert ended.state is RunState.SUCCEEDED, ended.message
    assert ended.attempt == 1
    assert_steps_are_complete(shell, client, ended, epochs=4)


def test_a_killed_trainer_goes_on_from_its_last_epoch(shell: Shell, client: TandemClient) -> None:
    changes = {"schedule.epochs": 4}
    run = client.launch(RunRequest(preset="quick/instant", changes=changes))
    wait_for(lambda: has_epoch(shell.home / "runs" / run.id, 2), interval_s=0.01)

    find_trainer(run.id).kill()
    ended = client.wait(run.id, timeout_s=TIMEOUT_S)

    assert ended.state is RunState.SUCCEEDED, ended.message
    assert ended.attempt == 2
    assert_steps_are_complete(shell, client, ended, epochs=4)


@pytest.mark.slow  # test_sweep.py has a teacher that is a run
def test_a_student_waits_for_the_run_that_trains_its_teacher(
    shell: Shell, client: TandemClient
) -> None:
    teacher = client.launch(RunRequest(preset="quick/instant", changes={"schedule.epochs": 1}))
    changes = {"teacher": {"run": teacher.id}, "schedule.epochs": 1}

    student = client.launch(RunRequest(preset="quick/instant_bckd", changes=changes))
    ended = client.wait(student.id, timeout_s=TIMEOUT_S)

    assert ended.state is RunState.SUCCEEDED, ended.message
    assert client.run(teacher.id).state is RunState.SUCCEEDED
    assert ended.teacher_map is not None
    assert Metric.LOSS_DISTILL_CLS in ended.latest
    assert Metric.LOSS_DISTILL_LOC in ended.latest
    tags = find_mlflow_run(shell.mlflow_url, student.id).data.tags
    assert len(tags[Tag.TEACHER_SHA256]) == 64
    waits = [event for event in client.events(student.id) if event.kind == "waiting"]
    assert teacher.id in waits[0].details


@pytest.mark.slow  # a Ray job is stopped by test_cluster_contract.py
def test_a_cancelled_run_ends_and_mlflow_agrees(shell: Shell, client: TandemClient) -> None:
    changes = {"schedule.epochs": 200}
    run = client.launch(RunRequest(preset="quick/instant", changes=changes))
    wait_for(lambda: client.run(run.id).progress is not None)

    client.cancel(run.id)
    ended = client.wait(run.id, timeout_s=TIMEOUT_S)

    assert ended.state is RunState.CANCELLED
    wait_for(lambda: read_mlflow_status(shell.mlflow_url, run.id) == "KILLED")
    with pytest.raises(psutil.NoSuchProcess):
        find_trainer(run.id)


def test_resources_that_no_node_has_are_refused_by_the_real_cluster(client: TandemClient) -> None:
    with pytest.raises(TandemApiError) as refusal:
        client.launch(RunRequest(preset="quick/instant", changes={"resources.num_cpus": 200}))

    assert refusal.value.problem.status == 422
    assert refusal.value.problem.errors[0].field == "resources.num_cpus"


def list_artifacts(shell: Shell, mlflow_run_id: str) -> set[str]:
    client = MlflowClient(shell.mlflow_url)
    top = client.list_artifacts(mlflow_run_id)
    inner = [
        file
        for entry in top
        if entry.is_dir
        for file in client.list_artifacts(mlflow_run_id, entry.path)
    ]
    return {entry.path for entry in (*top, *inner)}
