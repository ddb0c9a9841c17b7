"""Everything as containers: one after the other is killed while runs train, and nothing is lost."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from configs.metric_keys import Metric
from service.api.schemas.runs import RunRequest, RunView
from service.client import ServiceUnreachable, TandemApiError, TandemClient
from service.domain.states import RunState
from tests.support.stack.containers import FIGURES, PATIENCE_S, ComposeStack, when
from tests.support.stack.mlflow_runs import tracked_run, tracked_steps
from tests.support.stack.prometheus import NOT_YET, faults, wait_for_two_scrapes
from tests.support.stack.quick_preset import STEPS_AN_EPOCH, said_steps

pytestmark = [pytest.mark.compose, pytest.mark.timeout(5400)]

VICTIMS = ("service", "ray-worker", "ray-head", "mlflow", "postgres")
_EPOCHS = {"teacher": 2, "baseline": 60, "student": 60}


def test_nothing_is_lost_whichever_container_is_killed(
    stack: ComposeStack, client: TandemClient, tmp_path: Path
) -> None:
    began_s = time.monotonic()
    teacher = client.launch(_instant("teacher"))
    when(lambda: _steps(client, teacher.id) > 0)
    FIGURES.append(("from launch to first step", f"{time.monotonic() - began_s:.0f} s"))
    runs = {"teacher": teacher.id}
    pair: list[str] = []
    for victim in VICTIMS:
        if not pair or not all(_trains(client, run) for run in pair):
            pair = _launch_pair(client, teacher.id)
            runs |= {f"{kind} for {victim}": run for kind, run in zip(_PAIR, pair, strict=True)}
            when(lambda pair=pair: all(_trains(client, run) for run in pair))  # type: ignore[misc]
        _kill(stack, client, victim, pair)

    ended = {name: _ended(client, run) for name, run in runs.items()}

    assert {name: run.state for name, run in ended.items()} == dict.fromkeys(
        runs, RunState.SUCCEEDED
    )
    for name, run in ended.items():
        _assert_every_step_is_there_once(stack, client, run, epochs=_EPOCHS[name.split()[0]])
    student = ended[next(name for name in ended if name.startswith("student"))]
    assert student.teacher_map == ended["teacher"].latest[Metric.MAP]
    _assert_loadable(stack, student, tmp_path)


def test_a_run_of_two_processes_spans_two_containers_and_outlives_one(
    stack: ComposeStack, client: TandemClient
) -> None:
    stack.project.compose("up", "--detach", "--no-build", "--scale", "ray-worker=3")
    # Ray counts what its nodes have every few seconds.
    when(lambda: _nodes(client) == 4)
    changes = {
        "schedule.epochs": 30,
        "resources.processes": 2,
        "resources.num_cpus": 2,
        "checkpoints.every_steps": 6,
    }
    run = client.launch(RunRequest(preset="quick/instant", changes=changes, name="two containers"))
    when(lambda: _steps(client, run.id) > STEPS_AN_EPOCH)

    where = _where_it_trains(stack)
    os.kill(_pid(stack, where[1]), signal.SIGKILL)
    began_s = time.monotonic()
    when(lambda: client.run(run.id).attempt == 2 and _attempt_that_trains(client, run.id) == 2)
    FIGURES.append(("one of two nodes", f"trains on after {time.monotonic() - began_s:.0f} s"))
    where_then = _where_it_trains(stack)
    ended = _ended(client, run.id)

    assert len(where) == 2
    assert len(where_then) == 2
    assert ended.state is RunState.SUCCEEDED, ended.message
    assert [attempt.reason for attempt in client.attempts(run.id)] == ["node_lost", None]
    _assert_every_step_is_there_once(stack, client, ended, epochs=30)


def test_prometheus_can_answer_every_panel_and_every_rule(
    stack: ComposeStack, client: TandemClient
) -> None:
    stack.project.compose("--profile", "observability", "up", "--detach", "prometheus")
    trains = client.launch(RunRequest(preset="quick/instant", changes={"schedule.epochs": 500}))
    taught = {"teacher": {"run": trains.id}}
    waits = client.launch(RunRequest(preset="quick/instant_bckd", changes=taught))
    learning_rate = "schedule.optimizer.lr=loguniform:1e-4,1e-2"
    words = ("sweep", "quick/instant", learning_rate, "--trials", "1")
    stack.project.compose("run", "--rm", "-T", "tandem", *words)
    sweep = client.sweeps().items[0].id
    when(lambda: Metric.MAP in client.run(trains.id).latest)
    url = f"http://127.0.0.1:{stack.ports['PROMETHEUS_PORT']}"

    wait_for_two_scrapes(url, patience_s=PATIENCE_S)
    found = faults(url, variables={"run": trains.id, "sweep": sweep}, not_yet=NOT_YET)

    for run in (waits, trains):
        client.cancel(run.id)
    client.stop_sweep(sweep)
    assert found == []


def test_strangers_do_not_come_in_and_rays_jobs_are_not_published(stack: ComposeStack) -> None:
    with TandemClient(stack.url) as stranger, pytest.raises(TandemApiError) as refusal:
        stranger.launch(_instant("teacher"))
    told = stack.project.docker("ps", "--format", "{{.Ports}}", *stack.project.ours)
    published = {part.split("->")[0] for part in told.replace("\n", ",").split(",") if "->" in part}

    assert refusal.value.problem.status == 401
    assert {address.strip().rpartition(":")[0] for address in published} == {"127.0.0.1"}
    assert len(published) >= 2


_PAIR = ("baseline", "student")


def _instant(kind: str, **changes: object) -> RunRequest:
    preset = "quick/instant_bckd" if kind == "student" else "quick/instant"
    wanted = {"schedule.epochs": _EPOCHS[kind], "checkpoints.every_steps": 6, **changes}
    return RunRequest(preset=preset, changes=wanted, name=kind)


def _launch_pair(client: TandemClient, teacher_id: str) -> list[str]:
    """The student alone, and taught."""
    seed = int(time.monotonic())
    baseline = client.launch(_instant("baseline", seed=seed))
    taught = {"teacher": {"run": teacher_id}, "seed": seed}
    return [baseline.id, client.launch(_instant("student", **taught)).id]


def _kill(stack: ComposeStack, client: TandemClient, victim: str, pair: list[str]) -> None:
    """End a container's first process without a word; wait until it is back and the runs are."""
    (container,) = stack.project.containers(victim)
    before = {run: _place(client, run) for run in pair}
    started_at = stack.project.state(container)["StartedAt"]
    # What trained in there is found again by its next attempt; all others train on.
    least = 1 if victim == "ray-worker" else 0
    os.kill(_pid(stack, container), signal.SIGKILL)
    began_s = time.monotonic()
    when(lambda: all(_is_further(client, run, *before[run], least=least) for run in pair))
    goes_on_s = time.monotonic() - began_s
    when(lambda: stack.project.state(container)["StartedAt"] != started_at)
    when(lambda: stack.project.is_healthy(container))
    healthy_s = time.monotonic() - began_s
    attempts = [_run(client, run).attempt for run in pair]
    again = sum(now > then for now, (then, _) in zip(attempts, before.values(), strict=True))
    FIGURES.append(
        (
            f"{victim} killed",
            f"runs go on after {goes_on_s:.0f} s ({again} of 2 by another attempt), "
            f"healthy after {healthy_s:.0f} s",
        )
    )


def _pid(stack: ComposeStack, container: str) -> int:
    """Of the container's first process, as this machine counts."""
    pid = stack.project.state(container)["Pid"]
    assert isinstance(pid, int)
    return pid


def _run(client: TandemClient, run_id: str) -> RunView:
    """The run, as soon as the service answers."""
    found: list[RunView] = []

    def look() -> bool:
        try:
            found.append(client.run(run_id))
        except (ServiceUnreachable, TandemApiError):
            return False
        return True

    when(look)
    return found[0]


def _place(client: TandemClient, run_id: str) -> tuple[int, int]:
    """Attempt and step."""
    run = _run(client, run_id)
    return run.attempt, 0 if run.progress is None else run.progress.step


def _is_further(client: TandemClient, run_id: str, attempt: int, step: int, *, least: int) -> bool:
    """Whether it has trained on, at least so many attempts later, or is over."""
    run = _run(client, run_id)
    if run.is_over or run.progress is None:
        return run.is_over
    if run.progress.attempt == attempt:
        return least == 0 and run.progress.step > step
    return run.progress.attempt > attempt


def _steps(client: TandemClient, run_id: str) -> int:
    return _place(client, run_id)[1]


def _trains(client: TandemClient, run_id: str) -> bool:
    run = _run(client, run_id)
    return run.state is RunState.RUNNING and run.progress is not None and run.progress.step > 0


def _attempt_that_trains(client: TandemClient, run_id: str) -> int:
    progress = _run(client, run_id).progress
    return 0 if progress is None else progress.attempt


def _ended(client: TandemClient, run_id: str) -> RunView:
    when(lambda: _run(client, run_id).is_over, patience_s=2 * PATIENCE_S)
    return _run(client, run_id)


def _nodes(client: TandemClient) -> int:
    """Of Ray, its head included, as the service sees them."""
    told = next(check.detail for check in client.health().checks if check.name == "ray")
    return int(told.split()[0])


def _where_it_trains(stack: ComposeStack) -> list[str]:
    """Containers with a process of Ray Train's."""
    project = stack.project
    return [
        container
        for container in project.containers("ray-worker")
        if project.is_healthy(container) and "RayTrainWorker" in project.docker("top", container)
    ]


def _assert_every_step_is_there_once(
    stack: ComposeStack, client: TandemClient, run: RunView, *, epochs: int
) -> None:
    when(lambda: tracked_run(stack.mlflow_url, run.id).info.status == "FINISHED")
    wanted = said_steps(epochs)
    assert [point.step for point in client.metrics(run.id, key=Metric.LOSS)] == wanted
    assert tracked_steps(stack.mlflow_url, run.id, Metric.LOSS) == wanted


def _assert_loadable(stack: ComposeStack, run: RunView, folder: Path) -> None:
    """The best student, out of MLflow, is weights and nothing else."""
    mlflow_run = tracked_run(stack.mlflow_url, run.id).info.run_id
    artifact = "checkpoints/best.pth"
    file = MlflowClient(stack.mlflow_url).download_artifacts(mlflow_run, artifact, str(folder))
    found = torch.load(file, map_location="cpu", weights_only=True)
    assert found["state_dict"]
    assert all(torch.isfinite(tensor).all() for tensor in found["state_dict"].values())
