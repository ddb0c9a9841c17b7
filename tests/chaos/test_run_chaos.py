"""Everything is killed, frozen, filled up or cut off while runs train on a real Ray and MLflow."""

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
    Theatre,
    attempt_processes,
    steps_of,
    trainer_of,
    when,
)
from tests.support.stack.crashing_service import POINTS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

AWAY_S = (0, 20, 60)


@pytest.mark.parametrize(
    "point",
    [point for point in POINTS if point != "never"],
)
def test_the_service_dies_at_a_step(theatre: Theatre, point: str) -> None:
    with theatre.act(f"service killed {point}") as act:
        theatre.kill("service")
        dying = _start_dying_service(theatre, point)
        when(lambda: _answers(theatre))
        run_id = theatre.launch(act, epochs=4)
        is_stopping = "stop" in point
        if is_stopping:
            theatre.when_training(run_id)
            # It does not listen, so that the service has to climb its ladder.
            trainer_of(run_id).send_signal(signal.SIGSTOP)
            theatre.client.cancel(run_id)
        dying.wait(timeout=240)
        act.fault()
        assert dying.returncode == -signal.SIGKILL
        theatre.up()
        wanted = RunState.CANCELLED if is_stopping else RunState.SUCCEEDED
        theatre.when(run_id, lambda run: run.is_over or steps_of(run) > 0)
        act.back()
        ended = theatre.ends(act, run_id, epochs=4, state=wanted)
        assert ended.attempt == 1


@pytest.mark.parametrize("away_s", AWAY_S)
def test_the_service_is_away_while_runs_start_finish_and_fail(
    theatre: Theatre, away_s: int
) -> None:
    with theatre.act(f"service away for {away_s} s: start, finish, fail") as act:
        finishing = theatre.launch(act, epochs=4)
        theatre.when_training(finishing)
        failing = theatre.launch(act, epochs=4, **{"data.dataset": {"name": BROKEN}})
        theatre.when(failing, lambda run: run.state != "queued")
        starting = theatre.launch(act, epochs=4)

        theatre.kill("service")
        act.fault()
        time.sleep(away_s)
        theatre.up()

        theatre.when(finishing, lambda run: run.is_over)
        act.back()
        theatre.ends(act, finishing, epochs=4)
        theatre.ends(act, starting, epochs=4)
        failed = theatre.when(failing, lambda run: run.is_over)
        act.lost += failed.state != "failed" or failed.reason != "dataset_error"
        assert failed.attempt == 1


@pytest.mark.parametrize("forgets", [False, True], ids=["remembers", "forgets"])
def test_the_head_of_ray_is_killed(theatre: Theatre, forgets: bool) -> None:
    with theatre.act(f"Ray head killed, and {'forgets' if forgets else 'remembers'}") as act:
        run_id = theatre.launch(act)
        theatre.when_training(run_id, step=15)

        theatre.kill("ray")
        act.fault()
        if forgets:
            shutil.rmtree(theatre.shell.home / "ray" / "gcs")
        theatre.up()

        theatre.starts_again(act, run_id, attempt=1)
        theatre.ends(act, run_id)


def test_trainers_are_killed_again_and_again(theatre: Theatre) -> None:
    with theatre.act("trainer killed with -9, five times") as act:
        run_id = theatre.launch(act, epochs=16)
        theatre.when_training(run_id)
        for attempt in range(1, 6):
            trainer_of(run_id).kill()
            act.fault()
            theatre.starts_again(act, run_id, attempt=attempt)
        theatre.ends(act, run_id, epochs=16)


def test_a_node_is_lost_with_all_that_runs_there(theatre: Theatre) -> None:
    with theatre.act("a node of the cluster lost") as act:
        holders = [theatre.launch(act, epochs=400) for _ in range(2)]
        for holder in holders:
            theatre.when_training(holder)
        with theatre.another_node() as lose:
            run_id = theatre.launch(act, epochs=4)
            theatre.when_training(run_id)
            nodes = {theatre.client.attempts(run)[-1].node_id for run in (run_id, *holders)}
            assert len(nodes) == 2

            lose()
            act.fault()
            for holder in holders:
                theatre.client.cancel(holder)
            theatre.starts_again(act, run_id, attempt=1)
        theatre.ends(act, run_id, epochs=4)
        assert theatre.client.attempts(run_id)[0].reason == "node_lost"
        for holder in holders:
            theatre.ends(act, holder, epochs=400, state=RunState.CANCELLED)


def test_a_frozen_trainer_is_found_stalled(theatre: Theatre) -> None:
    with theatre.act("trainer frozen (SIGSTOP)") as act:
        run_id = theatre.launch(act)
        theatre.when_training(run_id, step=15)

        trainer_of(run_id).send_signal(signal.SIGSTOP)
        act.fault()

        theatre.starts_again(act, run_id, attempt=1)
        theatre.ends(act, run_id)
        attempts = theatre.client.attempts(run_id)
        assert attempts[0].reason == "stalled"


def test_mlflow_is_down_for_minutes(theatre: Theatre) -> None:
    with theatre.act("MLflow down for two minutes") as act:
        run_id = theatre.launch(act, epochs=6)
        theatre.when_training(run_id)

        theatre.kill("mlflow")
        act.fault()
        second = theatre.launch(act, epochs=4)
        time.sleep(120)
        theatre.up()

        theatre.ends(act, run_id)
        act.back()
        theatre.ends(act, second, epochs=4)


def test_the_database_drops_its_connections_and_goes_away(
    theatre: Theatre, server: Postgres | None
) -> None:
    if server is None:
        pytest.skip("PostgreSQL is not installed, and SQLite has no connection to lose")
    with theatre.act("database: connections cut ten times, 20 s away") as act:
        run_id = theatre.launch(act)
        before = theatre.when_training(run_id)
        for _ in range(10):
            server.cut()
            act.fault()
            time.sleep(0.5)
        server.stop()
        act.fault()
        try:
            assert theatre.shell.tandem("runs").returncode != 0
            time.sleep(20)
        finally:
            server.start()
        theatre.recovers(act, run_id, since=before)
        ended = theatre.ends(act, run_id)
        assert ended.attempt == 1


def test_the_disk_of_a_run_fills_up(theatre: Theatre) -> None:
    with theatre.act("disk full in the run's folder") as act:
        run_id = theatre.launch(act)
        theatre.when_training(run_id, step=15)
        with _full_disk(theatre.small_disk):
            act.fault()
            ended = theatre.when(run_id, lambda run: run.reason is not None)
        assert ended.reason == "disk_full"
        theatre.starts_again(act, run_id, attempt=1)
        theatre.ends(act, run_id)


def test_two_services_race_for_the_same_runs(theatre: Theatre) -> None:
    with theatre.act("two services over one database, each killed once") as act:
        second = _start_dying_service(theatre, "never", port=choose_free_port())
        try:
            runs = [theatre.launch(act, epochs=4) for _ in range(2)]
            theatre.when_training(runs[0])
            theatre.kill("service")
            act.fault()
            time.sleep(20)
            theatre.up()
            second.kill()
            act.fault()
            for run_id in runs:
                ended = theatre.ends(act, run_id, epochs=4)
                assert ended.attempt == 1
        finally:
            second.kill()
            second.wait()


def test_a_cancel_races_with_success(theatre: Theatre) -> None:
    with theatre.act("cancelled in its last steps, five times") as act:
        for late_s in (0.0, 0.2, 0.5, 1.0, 2.0):
            run_id = theatre.launch(act, epochs=1)
            theatre.when_training(run_id, step=11)
            time.sleep(late_s)
            cancel = threading.Thread(
                target=theatre.shell.tandem, args=("cancel", run_id), daemon=True
            )
            cancel.start()
            act.fault()
            ended = theatre.when(run_id, lambda run: run.is_over)
            cancel.join()
            state = ended.state
            assert state in (RunState.SUCCEEDED, RunState.CANCELLED)
            theatre.ends(act, run_id, epochs=1, state=state)


def test_pause_and_resume_while_everything_is_killed(theatre: Theatre) -> None:
    with theatre.act("paused, service killed, resumed, trainer killed") as act:
        run_id = theatre.launch(act)
        theatre.when_training(run_id, step=15)
        theatre.client.pause(run_id)
        theatre.kill("service")
        act.fault()
        theatre.up()
        paused = theatre.when(run_id, lambda run: run.state == "paused")
        assert not attempt_processes(run_id)
        theatre.client.resume(run_id)
        theatre.starts_again(act, run_id, attempt=paused.attempt)
        trainer_of(run_id).kill()
        act.fault()
        theatre.ends(act, run_id)


def _start_dying_service(
    theatre: Theatre, point: str, *, port: int | None = None
) -> subprocess.Popen[bytes]:
    """The service as a process that kills itself at a step of its work."""
    token_file = str(theatre.shell.home / "ray" / "token")
    env = {**theatre.shell.env, "TANDEM_RAY_TOKEN_FILE": token_file}
    if port is not None:
        env["TANDEM_PORT"] = str(port)
    with (theatre.shell.home / "logs" / "dying-service.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.stack.crashing_service", point],
            env=env,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[2],
        )


def _answers(theatre: Theatre) -> bool:
    return theatre.shell.tandem("runs").returncode == 0


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """No byte is left on the file system of `folder`, until the end."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while file.write(b"0" * size) == size:
                    pass
    try:
        yield
    finally:
        ballast.unlink()
