"""The Compose stack: nothing is lost when its containers are killed while runs train."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from configs.metric_keys import Metric
from service.api.schemas.runs import RunRequest, RunView
from service.client import TandemClient
from service.client_transport import ServiceUnreachable, TandemApiError
from service.domain.states import RunState
from tests.support.stack.containers import FIGURES, TIMEOUT_S, ComposeStack, measure_wait
from tests.support.stack.mlflow_runs import (
    find_mlflow_run,
    read_mlflow_status,
    read_mlflow_steps,
)
from tests.support.stack.prometheus import MAY_BE_MISSING, find_faults, wait_for_two_scrapes
from tests.support.stack.quick_preset import STEPS_PER_EPOCH, list_logged_steps

pytestmark = [pytest.mark.compose, pytest.mark.timeout(5400)]

KILLED_SERVICES = ("service", "ray-worker", "ray-head", "mlflow", "postgres")
_EPOCHS = {"teacher": 2, "baseline": 60, "student": 60}


def test_nothing_is_lost_whichever_container_is_killed(
    stack: ComposeStack, client: TandemClient, tmp_path: Path
) -> None:
    start_s = time.monotonic()
    teacher = client.launch(_launch_instant("teacher"))
    measure_wait(lambda: _steps(client, teacher.id) > 0)
    FIGURES.append(("from launch to first step", f"{time.monotonic() - start_s:.0f} s"))
    runs = {"teacher": teacher.id}
    pair: list[str] = []
    for service in KILLED_SERVICES:
        if not pair or not all(_is_training(client, run) for run in pair):
            pair = _launch_pair(client, teacher.id)
            runs |= {f"{kind} for {service}": run for kind, run in zip(_PAIR, pair, strict=True)}
            measure_wait(lambda pair=pair: all(_is_training(client, run) for run in pair))  # type: ignore[misc]
        _kill(stack, client, service, pair)

    ended_runs = {name: _wait_for_end(client, run) for name, run in runs.items()}

    assert {name: run.state for name, run in ended_runs.items()} == dict.fromkeys(
        runs, RunState.SUCCEEDED
    )
    for name, run in ended_runs.items():
        _assert_steps_are_complete(stack, client, run, epochs=_EPOCHS[name.split()[0]])
    student = ended_runs[next(name for name in ended_runs if name.startswith("student"))]
    assert student.teacher_map == ended_runs["teacher"].latest[Metric.MAP]
    _assert_loadable(stack, student, tmp_path)


def test_a_run_of_two_processes_spans_two_containers_and_outlives_one(
    stack: ComposeStack, client: TandemClient
) -> None:
    stack.project.compose("up", "--detach", "--no-build", "--scale", "ray-worker=3")
    # Ray counts what its nodes have every few seconds.
    measure_wait(lambda: _nodes(client) == 4)
    changes = {
        "schedule.epochs": 30,
        "resources.processes": 2,
        "resources.num_cpus": 2,
        "checkpoints.every_steps": 6,
    }
    run = client.launch(RunRequest(preset="quick/instant", changes=changes, name="two containers"))
    measure_wait(lambda: _steps(client, run.id) > STEPS_PER_EPOCH)

    nodes = _find_training_nodes(stack)
    os.kill(_pid(stack, nodes[1]), signal.SIGKILL)
    start_s = time.monotonic()
    measure_wait(lambda: client.run(run.id).attempt == 2 and _wait_for_attempt(client, run.id) == 2)
    FIGURES.append(("one of two nodes", f"trains on after {time.monotonic() - start_s:.0f} s"))
    where_then = _find_training_nodes(stack)
    ended_runs = _wait_for_end(client, run.id)

    assert len(nodes) == 2
    assert len(where_then) == 2
    assert ended_runs.state is RunState.SUCCEEDED, ended_runs.message
    assert [attempt.reason for attempt in client.attempts(run.id)] == ["node_lost", None]
    _assert_steps_are_complete(stack, client, ended_runs, epochs=30)


def test_prometheus_can_answer_every_panel_and_every_rule(
    stack: ComposeStack, client: TandemClient
) -> None:
    stack.project.compose("--profile", "observability", "up", "--detach", "prometheus")
    trains = client.launch(RunRequest(preset="quick/instant", changes={"schedule.epochs": 500}))
    teacher_options = {"teacher": {"run": trains.id}}
    waits = client.launch(RunRequest(preset="quick/instant_bckd", changes=teacher_options))
    learning_rate = "schedule.optimizer.lr=loguniform:1e-4,1e-2"
    arguments = ("sweep", "quick/instant", learning_rate, "--trials", "1")
    stack.project.compose("run", "--rm", "-T", "tandem", *arguments)
    sweep = client.sweeps().items[0].id
    measure_wait(lambda: Metric.MAP in client.run(trains.id).latest)
    url = f"http://127.0.0.1:{stack.ports['PROMETHEUS_PORT']}"

    wait_for_two_scrapes(url, timeout_s=TIMEOUT_S)
    problems = find_faults(
        url, variables={"run": trains.id, "sweep": sweep}, may_be_missing=MAY_BE_MISSING
    )

    for run in (waits, trains):
        client.cancel(run.id)
    client.stop_sweep(sweep)
    assert problems == []


def test_strangers_do_not_come_in_and_rays_jobs_are_not_published(stack: ComposeStack) -> None:
    with TandemClient(stack.url) as anonymous, pytest.raises(TandemApiError) as refusal:
        anonymous.launch(_launch_instant("teacher"))
    output = stack.project.docker("ps", "--format", "{{.Ports}}", *stack.project.project_filter)
    published = {
        part.split("->")[0] for part in output.replace("\n", ",").split(",") if "->" in part
    }

    assert refusal.value.problem.status == 401
    assert {address.strip().rpartition(":")[0] for address in published} == {"127.0.0.1"}
    assert len(published) >= 2


def test_a_worker_can_neither_read_nor_replace_what_is_the_services(stack: ComposeStack) -> None:
    home = "/var/lib/tandem"
    attempts = (
        f"ls {home}/logs-of-runs",
        f"mv {home}/runs {home}/hers",
        "ls /var/lib/tandem-keys",
        "touch /usr/local/bin/hers",
        "touch /hers",
    )
    script = "; ".join(f"({attempt}) 2>/dev/null && echo {attempt!r}" for attempt in attempts)
    (worker, *_) = stack.project.containers("ray-worker")
    (service,) = stack.project.containers("service")

    done = stack.project.docker("exec", worker, "sh", "-c", f"{script}; true")
    users = [stack.project.docker("exec", name, "id", "-u").strip() for name in (worker, service)]

    assert done == ""
    assert users == ["10001", "10002"]


def test_a_backup_leaves_the_containers_through_a_pipe_only(stack: ComposeStack) -> None:
    backup = "tandem backup - | tail --bytes 1000 | grep --count --text manifest.json"
    (service,) = stack.project.containers("service")

    matches = stack.project.docker("exec", service, "bash", "-o", "pipefail", "-c", backup)
    zips = stack.project.docker("exec", service, "find", "/var/lib/tandem", "-name", "*.zip")

    assert int(matches) >= 1
    assert zips == ""


_PAIR = ("baseline", "student")


def _launch_instant(kind: str, **changes: object) -> RunRequest:
    preset = "quick/instant_bckd" if kind == "student" else "quick/instant"
    overrides = {"schedule.epochs": _EPOCHS[kind], "checkpoints.every_steps": 6, **changes}
    return RunRequest(preset=preset, changes=overrides, name=kind)


def _launch_pair(client: TandemClient, teacher_id: str) -> list[str]:
    """Launch a baseline and a distilled run."""
    seed = int(time.monotonic())
    baseline = client.launch(_launch_instant("baseline", seed=seed))
    overrides = {"teacher": {"run": teacher_id}, "seed": seed}
    return [baseline.id, client.launch(_launch_instant("student", **overrides)).id]


def _kill(stack: ComposeStack, client: TandemClient, service: str, pair: list[str]) -> None:
    """Kill a container's main process; wait until it runs again and the runs make progress."""
    (container,) = stack.project.containers(service)
    before = {run: _get_position(client, run) for run in pair}
    started_at = stack.project.state(container)["StartedAt"]
    # What trained in there is found again by its next attempt; all others train on.
    least = 1 if service == "ray-worker" else 0
    os.kill(_pid(stack, container), signal.SIGKILL)
    start_s = time.monotonic()
    measure_wait(
        lambda: all(_has_progressed(client, run, *before[run], least=least) for run in pair)
    )
    resume_s = time.monotonic() - start_s
    measure_wait(lambda: stack.project.state(container)["StartedAt"] != started_at)
    measure_wait(lambda: stack.project.is_healthy(container))
    healthy_s = time.monotonic() - start_s
    attempts = [_run(client, run).attempt for run in pair]
    num_new_attempts = sum(
        current > previous for current, (previous, _) in zip(attempts, before.values(), strict=True)
    )
    FIGURES.append(
        (
            f"{service} killed",
            f"runs go on after {resume_s:.0f} s ({num_new_attempts} of 2 by another attempt), "
            f"healthy after {healthy_s:.0f} s",
        )
    )


def _pid(stack: ComposeStack, container: str) -> int:
    """Get the host's id of the container's main process."""
    pid = stack.project.state(container)["Pid"]
    assert isinstance(pid, int)
    return pid


def _run(client: TandemClient, run_id: str) -> RunView:
    """Get the run as soon as the service responds."""
    responses: list[RunView] = []

    def poll() -> bool:
        try:
            responses.append(client.run(run_id))
        except (ServiceUnreachable, TandemApiError):
            return False
        return True

    measure_wait(poll)
    return responses[0]


def _get_position(client: TandemClient, run_id: str) -> tuple[int, int]:
    """Get attempt and step."""
    run = _run(client, run_id)
    return run.attempt, 0 if run.progress is None else run.progress.step


def _has_progressed(
    client: TandemClient, run_id: str, attempt: int, step: int, *, least: int
) -> bool:
    """Whether the run is over, or has trained further, by at least that many attempts."""
    run = _run(client, run_id)
    if run.is_over or run.progress is None:
        return run.is_over
    if run.progress.attempt == attempt:
        return least == 0 and run.progress.step > step
    return run.progress.attempt > attempt


def _steps(client: TandemClient, run_id: str) -> int:
    return _get_position(client, run_id)[1]


def _is_training(client: TandemClient, run_id: str) -> bool:
    run = _run(client, run_id)
    return run.state is RunState.RUNNING and run.progress is not None and run.progress.step > 0


def _wait_for_attempt(client: TandemClient, run_id: str) -> int:
    progress = _run(client, run_id).progress
    return 0 if progress is None else progress.attempt


def _wait_for_end(client: TandemClient, run_id: str) -> RunView:
    measure_wait(lambda: _run(client, run_id).is_over, timeout_s=2 * TIMEOUT_S)
    return _run(client, run_id)


def _nodes(client: TandemClient) -> int:
    """Count the nodes of Ray, head included, as the service reports them."""
    detail = next(check.detail for check in client.health().checks if check.name == "ray")
    return int(detail.split()[0])


def _find_training_nodes(stack: ComposeStack) -> list[str]:
    """List the containers with a process of Ray Train."""
    project = stack.project
    return [
        container
        for container in project.containers("ray-worker")
        if project.is_healthy(container) and "RayTrainWorker" in project.docker("top", container)
    ]


def _assert_steps_are_complete(
    stack: ComposeStack, client: TandemClient, run: RunView, *, epochs: int
) -> None:
    measure_wait(lambda: read_mlflow_status(stack.mlflow_url, run.id) == "FINISHED")
    expected = list_logged_steps(epochs)
    assert [point.step for point in client.metrics(run.id, key=Metric.LOSS)] == expected
    assert read_mlflow_steps(stack.mlflow_url, run.id, Metric.LOSS) == expected


def _assert_loadable(stack: ComposeStack, run: RunView, folder: Path) -> None:
    """Load the best checkpoint from MLflow as weights only."""
    mlflow_run = find_mlflow_run(stack.mlflow_url, run.id).info.run_id
    artifact = "checkpoints/best.pth"
    file = MlflowClient(stack.mlflow_url).download_artifacts(mlflow_run, artifact, str(folder))
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    assert checkpoint["state_dict"]
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint["state_dict"].values())
