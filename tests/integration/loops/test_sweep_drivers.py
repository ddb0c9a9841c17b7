"""Drivers of sweeps that crash, hang or lose their cluster are replaced, up to a limit."""

import pytest

from tests.support.service.simulated_sweep import start_search
from tests.support.service.stage import Stage


def test_a_driver_that_dies_is_followed_by_another_after_a_pause(stage: Stage) -> None:
    sweep = start_search(stage)
    stage.cluster.logs_by_job[f"{sweep.id}-d1"] = "starts\nImportError: no ray\n"

    stage.cluster.set_job_state(f"{sweep.id}-d1", "failed", exit_code=1)
    stage.run_loops()

    assert sweep.view["consecutive_failures"] == 1
    assert "ImportError: no ray" in sweep.view["message"]
    assert f"{sweep.id}-d2" not in stage.cluster.job_requests
    stage.clock.advance(2)
    stage.run_loops()
    assert f"{sweep.id}-d2" in stage.cluster.job_requests


def test_ten_drivers_that_do_nothing_are_enough(stage: Stage) -> None:
    sweep = start_search(stage)
    (run_id,) = sweep.suggest(0)
    for number in range(1, 12):
        stage.cluster.set_job_state(f"{sweep.id}-d{number}", "failed", exit_code=1)
        stage.run_loops()
        stage.clock.advance(200)
        stage.run_loops()

    assert sweep.state == "failed"
    assert "10 drivers in a row made no progress" in sweep.view["message"]
    assert stage.run(run_id)["desired"] == "run"
    extended = stage.http.post(f"/v1/sweeps/{sweep.id}:extend", json={"trials": 1})
    assert extended.json()["state"] == "searching"


def test_a_driver_that_got_further_begins_anew_to_be_counted(stage: Stage) -> None:
    sweep = start_search(stage)
    for number in range(1, 4):
        sweep.suggest(number - 1)
        stage.cluster.set_job_state(f"{sweep.id}-d{number}", "failed", exit_code=1)
        stage.run_loops()
        stage.clock.advance(10)
        stage.run_loops()

    assert (sweep.view["driver"], sweep.view["consecutive_failures"]) == (4, 1)


def test_a_head_without_memory_gets_another_driver(stage: Stage) -> None:
    sweep = start_search(stage)

    stage.cluster.forget_jobs()
    stage.run_loops()
    stage.clock.advance(5)
    stage.run_loops()

    assert f"{sweep.id}-d2" in stage.cluster.job_requests


@pytest.mark.parametrize("is_faulty", [False, True], ids=["a job", "a job Ray cannot describe"])
def test_a_driver_that_is_not_heard_is_replaced(stage: Stage, is_faulty: bool) -> None:
    sweep = start_search(stage)
    stage.cluster.faulty_jobs = {f"{sweep.id}-d1"} if is_faulty else set()
    stage.cluster.set_job_state(f"{sweep.id}-d1", "running")
    stage.run_loops()
    stage.clock.advance(60)
    sweep.progress()
    stage.run_loops()
    stage.clock.advance(60)
    stage.run_loops()
    assert sweep.view["consecutive_failures"] == 0

    stage.clock.advance(60)
    stage.run_loops()

    assert stage.cluster.stopped == [f"{sweep.id}-d1"]
    assert "sent no request" in sweep.view["message"]


def test_ray_away_ends_no_driver(stage: Stage) -> None:
    sweep = start_search(stage)
    stage.cluster.is_reachable = False

    with pytest.raises(Exception, match="unreachable"):
        stage.sweeps.run_once()

    stage.cluster.is_reachable = True
    stage.run_loops()
    assert (sweep.state, sweep.view["consecutive_failures"], sweep.view["driver"]) == (
        "searching",
        0,
        1,
    )
