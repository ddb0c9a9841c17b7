"""Commands of sweeps, against a service in the same process."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import create_app, reports, sweeps
from service.cli.errors import CliError
from service.cli.progress.sweeps import watch_sweep
from service.client import TandemClient
from service.client_transport import TandemApiError
from tests.support.factories import make_manifest, write_dataset
from tests.support.service.simulated_sweep import (
    CLS,
    LOC,
    SimulatedSweep,
    complete_sweep,
    start_search,
    train_trial,
)
from tests.support.service.stage import Stage

Tandem = Callable[..., Result]


@pytest.fixture
def tandem(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Tandem:
    """Runs the command line against the service of `stage`."""

    def client() -> TandemClient:
        return TandemClient("http://localhost", transport=stage.transport)

    monkeypatch.setattr(sweeps, "open_client", client)
    monkeypatch.setattr(reports, "open_client", client)
    return lambda *arguments: CliRunner(env={"COLUMNS": "200"}).invoke(
        create_app(), list(arguments)
    )


def test_a_sweep_is_launched_and_how_to_come_back_is_said(stage: Stage, tandem: Tandem) -> None:
    digits = tuple("0123456789")
    root = write_dataset(stage.home / "digits", make_manifest(name="digits", classes=digits))
    stage.http.post("/v1/datasets", json={"root": str(root)})
    stage.add_teacher("digits-teacher", classes=digits)
    options = ("--trials", "8", "--algorithm", "random", "--scheduler", "asha", "--repeats", "2")
    assignments = (f"{CLS}=loguniform:0.1,10", "schedule.epochs=6", "--initial-point", f"{CLS}=1")

    planned = tandem("sweep", "digits/bckd", *assignments, *options, "--plan")
    output = tandem("sweep", "digits/bckd", *assignments, *options, "--name", "mine", "--pack", "2")

    assert "Up to 8 trials, 16 runs." in planned.output
    (launched,) = re.findall(r"Launched (s[0-9a-z]{12})", output.output)
    assert f"tandem trials {launched}" in output.output
    view = SimulatedSweep(stage, launched).view
    assert (view["name"], view["spec"]["pack"], view["spec"]["repeats"]) == ("mine", 2, 2)
    assert view["spec"]["base"]["schedule"]["epochs"] == 6
    assert view["spec"]["initial_points"] == [{CLS: 1}]


def test_sweeps_and_trials_are_listed(stage: Stage, tandem: Tandem) -> None:
    assert "No sweeps yet" in tandem("sweeps").output
    sweep = start_search(stage)
    train_trial(sweep, 0, 0.3, **{CLS: 2.5, LOC: 1})
    sweep.suggest(1)

    sweeps, trials = tandem("sweeps").output, tandem("trials", sweep.id[:6]).output

    assert sweep.id in sweeps
    assert "30.0" in sweeps
    assert "trial 0 (cls_weight=2.5, loc_weight=1): mAP 30.0" in trials
    assert "running" in trials
    assert "finished" in tandem("trials", sweep.id, "--json").output


def test_a_sweep_is_watched_to_its_end(stage: Stage, tandem: Tandem) -> None:
    sweep = start_search(stage)
    train_trial(sweep, 0, 0.3)
    complete_sweep(sweep)

    with TandemClient("http://localhost", transport=stage.transport) as client:
        finished = watch_sweep(client, sweep.id)

    assert finished.state == "succeeded"


def test_actions_are_confirmed(stage: Stage, tandem: Tandem, tmp_path: Path) -> None:
    sweep = start_search(stage)
    train_trial(sweep, 0, 0.3)
    complete_sweep(sweep)
    page = tmp_path / "page.html"

    output = tandem("report", sweep.id).output
    saved = tandem("report", sweep.id[:8], "--format", "html", "--out", str(page))
    promoted = tandem("promote", sweep.id, "schedule.epochs=9", "--name", "long")
    extended = tandem("extend", sweep.id, f"{CLS}=uniform:0,5", "--trials", "3")
    result = tandem("stop", sweep.id)

    assert "# Did it help?" in output
    assert saved.exit_code == 0, saved.output
    assert "<h1>" in page.read_text()
    assert "(long)" in promoted.output
    assert "searching" in extended.output
    assert sweep.view["spec"]["space"][CLS] == {
        "kind": "uniform",
        "low": 0.0,
        "high": 5.0,
        "when": {},
    }
    assert "its trials stop" in result.output


def test_what_is_wrong_is_refused_before_or_by_the_service(stage: Stage, tandem: Tandem) -> None:
    sweep = start_search(stage)

    no_bounds = tandem("sweep", "digits/bckd", f"{CLS}=uniform:1")
    no_such = tandem("trials", "snone")
    not_over = tandem("extend", sweep.id, "--trials", "2")
    no_parameter = tandem("extend", sweep.id, "schedule.epochs=3")

    assert isinstance(no_bounds.exception, CliError)
    assert isinstance(no_such.exception, CliError)
    assert isinstance(not_over.exception, TandemApiError)
    assert isinstance(no_parameter.exception, CliError)
