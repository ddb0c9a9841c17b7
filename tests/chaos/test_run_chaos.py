"""Processes are killed and frozen, disks filled and connections closed while runs train."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from service.domain.states import RunState
from service.stack.ports import choose_free_port
from tests.support.service.postgres import Postgres
from tests.support.stack.chaos_stack import (
    BROKEN,
    ChaosStack,
    find_attempt_processes,
    find_trainer,
    get_step,
    wait_for,
)
from tests.support.stack.crashing_service import POINTS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

DOWNTIMES_S = (0, 20, 60)


@pytest.mark.parametrize(
    "point",
    [point for point in POINTS if point != "never"],
)
def test_the_service_dies_at_a_step(chaos_stack: ChaosStack, point: str) -> None:
    with chaos_stack.record_case(f"service killed {point}") as result:
        chaos_stack.kill("service")
        crashing = _start_crashing_service(chaos_stack, point)
        wait_for(lambda: _responds(chaos_stack))
        run_id = chaos_stack.launch(result, epochs=4)
        is_stopping = "stop" in point
        if is_stopping:
            chaos_stack.wait_for_step(run_id)
            # A stopped process ignores SIGTERM, so the service has to escalate.
            find_trainer(run_id).send_signal(signal.SIGSTOP)
            chaos_stack.client.cancel(run_id)
        crashing.wait(timeout=240)
        result.count_fault()
        assert crashing.returncode == -signal.SIGKILL
        chaos_stack.start_missing()
        expected_state = RunState.CANCELLED if is_stopping else RunState.SUCCEEDED
        chaos_stack.wait_for_run(run_id, lambda run: run.is_over or get_step(run) > 0)
        result.mark_recovered()
        ended_run = chaos_stack.check_end(result, run_id, epochs=4, state=expected_state)
        assert ended_run.attempt == 1


@pytest.mark.parametrize("downtime_s", DOWNTIMES_S)
def test_the_service_is_away_while_runs_start_finish_and_fail(
    chaos_stack: ChaosStack, downtime_s: int
) -> None:
    with chaos_stack.record_case(f"service away for {downtime_s} s: start, finish, fail") as result:
        finishing = chaos_stack.launch(result, epochs=4)
        chaos_stack.wait_for_step(finishing)
        failing = chaos_stack.launch(result, epochs=4, **{"data.dataset": {"name": BROKEN}})
        chaos_stack.wait_for_run(failing, lambda run: run.state != "queued")
        starting = chaos_stack.launch(result, epochs=4)

        chaos_stack.kill("service")
        result.count_fault()
        time.sleep(downtime_s)
        chaos_stack.start_missing()

        chaos_stack.wait_for_run(finishing, lambda run: run.is_over)
        result.mark_recovered()
        chaos_stack.check_end(result, finishing, epochs=4)
        chaos_stack.check_end(result, starting, epochs=4)
        failed = chaos_stack.wait_for_run(failing, lambda run: run.is_over)
        result.lost += failed.state != "failed" or failed.reason != "dataset_error"
        assert failed.attempt == 1


@pytest.mark.parametrize("loses_state", [False, True], ids=["remembers", "forgets"])
def test_the_head_of_ray_is_killed(chaos_stack: ChaosStack, loses_state: bool) -> None:
    with chaos_stack.record_case(
        f"Ray head killed, and {'forgets' if loses_state else 'remembers'}"
    ) as result:
        run_id = chaos_stack.launch(result)
        chaos_stack.wait_for_step(run_id, step=15)

        chaos_stack.kill("ray")
        result.count_fault()
        if loses_state:
            shutil.rmtree(chaos_stack.shell.home / "ray" / "gcs")
        chaos_stack.start_missing()

        chaos_stack.measure_restart(result, run_id, attempt=1)
        chaos_stack.check_end(result, run_id)


def test_trainers_are_killed_again_and_again(chaos_stack: ChaosStack) -> None:
    with chaos_stack.record_case("trainer killed with -9, five times") as result:
        run_id = chaos_stack.launch(result, epochs=16)
        for attempt in range(1, 6):
            # Each attempt passes a checkpoint: a run that makes no progress is not retried forever.
            chaos_stack.wait_for_step(run_id, step=10 * attempt)
            find_trainer(run_id).kill()
            result.count_fault()
            chaos_stack.measure_restart(result, run_id, attempt=attempt)
        chaos_stack.check_end(result, run_id, epochs=16)


def test_a_node_is_lost_with_all_that_runs_there(chaos_stack: ChaosStack) -> None:
    with chaos_stack.record_case("a node of the cluster lost") as result:
        occupying = [chaos_stack.launch(result, epochs=400) for _ in range(2)]
        for other_id in occupying:
            chaos_stack.wait_for_step(other_id)
        with chaos_stack.add_node() as kill_node:
            run_id = chaos_stack.launch(result, epochs=4)
            chaos_stack.wait_for_step(run_id)
            nodes = {chaos_stack.client.attempts(run)[-1].node_id for run in (run_id, *occupying)}
            assert len(nodes) == 2

            kill_node()
            result.count_fault()
            for other_id in occupying:
                chaos_stack.client.cancel(other_id)
            chaos_stack.measure_restart(result, run_id, attempt=1)
        chaos_stack.check_end(result, run_id, epochs=4)
        assert chaos_stack.client.attempts(run_id)[0].reason == "node_lost"
        for other_id in occupying:
            chaos_stack.check_end(result, other_id, epochs=400, state=RunState.CANCELLED)


def test_a_frozen_trainer_is_found_stalled(chaos_stack: ChaosStack) -> None:
    with chaos_stack.record_case("trainer frozen (SIGSTOP)") as result:
        run_id = chaos_stack.launch(result)
        chaos_stack.wait_for_step(run_id, step=15)

        find_trainer(run_id).send_signal(signal.SIGSTOP)
        result.count_fault()

        chaos_stack.measure_restart(result, run_id, attempt=1)
        chaos_stack.check_end(result, run_id)
        attempts = chaos_stack.client.attempts(run_id)
        assert attempts[0].reason == "stalled"


def test_mlflow_is_down_for_minutes(chaos_stack: ChaosStack) -> None:
    with chaos_stack.record_case("MLflow down for two minutes") as result:
        run_id = chaos_stack.launch(result, epochs=6)
        chaos_stack.wait_for_step(run_id)

        chaos_stack.kill("mlflow")
        result.count_fault()
        second = chaos_stack.launch(result, epochs=4)
        time.sleep(120)
        chaos_stack.start_missing()

        chaos_stack.check_end(result, run_id)
        result.mark_recovered()
        chaos_stack.check_end(result, second, epochs=4)


def test_the_database_drops_its_connections_and_goes_away(
    chaos_stack: ChaosStack, server: Postgres | None
) -> None:
    if server is None:
        pytest.skip("PostgreSQL is not installed, and SQLite has no connection to lose")
    with chaos_stack.record_case("database: connections cut ten times, 20 s away") as result:
        run_id = chaos_stack.launch(result)
        before = chaos_stack.wait_for_step(run_id)
        for _ in range(10):
            server.terminate_connections()
            result.count_fault()
            time.sleep(0.5)
        server.stop()
        result.count_fault()
        try:
            assert chaos_stack.shell.tandem("runs").returncode != 0
            time.sleep(20)
        finally:
            server.start()
        chaos_stack.measure_recovery(result, run_id, since=before)
        run = chaos_stack.check_end(result, run_id)
        assert run.attempt == 1


def test_the_disk_of_a_run_fills_up(chaos_stack: ChaosStack) -> None:
    with chaos_stack.record_case("disk full in the run's folder") as result:
        run_id = chaos_stack.launch(result)
        chaos_stack.wait_for_step(run_id, step=15)
        with _fill_disk(chaos_stack.small_disk):
            result.count_fault()
            ended_run = chaos_stack.wait_for_run(run_id, lambda run: run.reason is not None)
        assert ended_run.reason == "disk_full"
        chaos_stack.measure_restart(result, run_id, attempt=1)
        chaos_stack.check_end(result, run_id)


def test_two_services_race_for_the_same_runs(chaos_stack: ChaosStack) -> None:
    with chaos_stack.record_case("two services over one database, each killed once") as result:
        second = _start_crashing_service(chaos_stack, "never", port=choose_free_port())
        try:
            runs = [chaos_stack.launch(result, epochs=4) for _ in range(2)]
            chaos_stack.wait_for_step(runs[0])
            chaos_stack.kill("service")
            result.count_fault()
            time.sleep(20)
            chaos_stack.start_missing()
            second.kill()
            result.count_fault()
            for run_id in runs:
                run = chaos_stack.check_end(result, run_id, epochs=4)
                assert run.attempt == 1
        finally:
            second.kill()
            second.wait()


def test_a_cancel_races_with_success(chaos_stack: ChaosStack) -> None:
    with chaos_stack.record_case("cancelled in its last steps, five times") as result:
        for delay_s in (0.0, 0.2, 0.5, 1.0, 2.0):
            run_id = chaos_stack.launch(result, epochs=1)
            chaos_stack.wait_for_step(run_id, step=11)
            time.sleep(delay_s)
            cancel = threading.Thread(
                target=chaos_stack.shell.tandem, args=("cancel", run_id), daemon=True
            )
            cancel.start()
            result.count_fault()
            ended_run = chaos_stack.wait_for_run(run_id, lambda run: run.is_over)
            cancel.join()
            state = ended_run.state
            assert state in (RunState.SUCCEEDED, RunState.CANCELLED)
            chaos_stack.check_end(result, run_id, epochs=1, state=state)


def test_pause_and_resume_while_everything_is_killed(chaos_stack: ChaosStack) -> None:
    with chaos_stack.record_case("paused, service killed, resumed, trainer killed") as result:
        run_id = chaos_stack.launch(result)
        chaos_stack.wait_for_step(run_id, step=15)
        chaos_stack.client.pause(run_id)
        chaos_stack.kill("service")
        result.count_fault()
        chaos_stack.start_missing()
        paused = chaos_stack.wait_for_run(run_id, lambda run: run.state == "paused")
        assert not find_attempt_processes(run_id)
        chaos_stack.client.resume(run_id)
        chaos_stack.measure_restart(result, run_id, attempt=paused.attempt)
        find_trainer(run_id).kill()
        result.count_fault()
        chaos_stack.check_end(result, run_id)


def _start_crashing_service(
    chaos_stack: ChaosStack, point: str, *, port: int | None = None
) -> subprocess.Popen[bytes]:
    """Start the service as a process that kills itself at `point`."""
    token_file = str(chaos_stack.shell.home / "ray" / "token")
    env = {**chaos_stack.shell.env, "TANDEM_RAY_TOKEN_FILE": token_file}
    if port is not None:
        env["TANDEM_PORT"] = str(port)
    with (chaos_stack.shell.home / "logs" / "dying-service.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.stack.crashing_service", point],
            env=env,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[2],
        )


def _responds(chaos_stack: ChaosStack) -> bool:
    return chaos_stack.shell.tandem("runs").returncode == 0


@contextmanager
def _fill_disk(folder: Path) -> Iterator[None]:
    """Fill the file system of `folder` to the last byte; free it at exit."""
    filler = folder / "ballast"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while file.write(b"0" * size) == size:
                    pass
    try:
        yield
    finally:
        filler.unlink()
