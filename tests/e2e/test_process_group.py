"""Two processes train a run on the real stack, and one of them is killed."""

import json
from contextlib import closing

import psutil
import pytest

from configs.protocol.names import RunFile
from service.adapters.ray_jobs import RayJobs
from service.api.schemas.runs import RunRequest
from service.client import TandemClient
from service.domain.states import RunState
from service.stack.components import ComponentName
from service.stack.processes import find_marked_processes
from tests.support.stack.e2e_runs import (
    TIMEOUT_S,
    assert_steps_are_complete,
    wait_for,
)
from tests.support.stack.shell import Shell
from tests.support.training.runs import has_epoch

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_killed_process_of_two_ends_the_attempt_and_the_next_one_goes_on(
    shell: Shell, client: TandemClient
) -> None:
    changes = {"schedule.epochs": 6, "resources.processes": 2, "resources.min_processes": 1}
    run = client.launch(RunRequest(preset="quick/instant", changes=changes))
    wait_for(lambda: has_epoch(shell.home / "runs" / run.id, 2), interval_s=0.01)

    find_other_process(shell, run.id).kill()
    ended = client.wait(run.id, timeout_s=TIMEOUT_S)

    assert ended.state is RunState.SUCCEEDED, ended.message
    attempts = client.attempts(run.id)
    assert [attempt.reason for attempt in attempts] == ["node_lost", None]
    assert [attempt.exit_code for attempt in attempts] == [20, 0]
    assert [attempt.processes for attempt in attempts] == [2, 2]
    assert attempts[0].node_id, "the killed process had said where it ran"
    assert attempts[1].resumed_from_epoch is not None
    assert attempts[1].resumed_from_epoch >= 1
    assert_steps_are_complete(shell, client, ended, epochs=6)
    assert "Training with 2 processes" in client.logs(run.id)


def test_a_cancelled_run_of_two_processes_leaves_none_behind(
    shell: Shell, client: TandemClient
) -> None:
    changes = {"schedule.epochs": 500, "resources.processes": 2}
    run = client.launch(RunRequest(preset="quick/instant", changes=changes))
    wait_for(lambda: has_epoch(shell.home / "runs" / run.id, 1), interval_s=0.01)

    client.cancel(run.id)
    ended = client.wait(run.id, timeout_s=TIMEOUT_S)

    assert ended.state is RunState.CANCELLED, ended.message
    wait_for(lambda: not members(shell))


def test_a_stopped_job_leaves_with_a_checkpoint_and_goes_on(
    shell: Shell, client: TandemClient
) -> None:
    changes = {"schedule.epochs": 500, "resources.processes": 2}
    run = client.launch(RunRequest(preset="quick/instant", changes=changes))
    wait_for(lambda: has_epoch(shell.home / "runs" / run.id, 2), interval_s=0.01)

    token_file = shell.home / "ray" / "token"
    with closing(RayJobs(shell.env["TANDEM_RAY_URL"], token_file=token_file)) as ray:
        ray.stop(f"{run.id}-a1")
    wait_for(lambda: len(client.attempts(run.id)) == 2)
    wait_for(lambda: client.attempts(run.id)[1].resumed_from_epoch is not None)
    first, second = client.attempts(run.id)
    client.cancel(run.id)
    client.wait(run.id, timeout_s=TIMEOUT_S)

    assert first.reason == "preempted"
    assert "SIGTERM" in first.message
    assert second.resumed_from_epoch is not None
    assert second.resumed_from_epoch >= 1


def members(shell: Shell) -> list[psutil.Process]:
    processes = find_marked_processes(f"{shell.home}:{ComponentName.RAY}")
    return [process for process in processes if "RayTrainWorker" in " ".join(process.cmdline())]


def find_other_process(shell: Shell, run_id: str) -> psutil.Process:
    """Find a training process that is not the main process."""
    spool = (shell.home / "runs" / run_id / RunFile.SPOOL).read_text().splitlines()
    first = next(json.loads(line)["pid"] for line in spool if '"started"' in line)
    (other,) = [process for process in members(shell) if process.pid != first]
    return other
