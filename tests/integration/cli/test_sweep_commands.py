"""Commands of sweeps, against a service in the same process."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli import app, reports, sweeps
from service.cli.errors import CliError
from service.cli.progress.sweeps import watch_sweep
from service.client import TandemApiError, TandemClient
from tests.support.factories import a_manifest, write_dataset
from tests.support.service.simulated_sweep import (
    CLS,
    LOC,
    SimulatedSweep,
    closed,
    searching_sweep,
    trained,
)
from tests.support.service.stage import Stage

Tandem = Callable[..., Result]


@pytest.fixture
def tandem(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Tandem:
    """The command line before the stage's service."""

    def client() -> TandemClient:
        return TandemClient("http://localhost", transport=stage.transport)

    monkeypatch.setattr(sweeps, "open_client", client)
    monkeypatch.setattr(reports, "open_client", client)
    return lambda *words: CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words))


def test_a_sweep_is_launched_and_how_to_come_back_is_said(stage: Stage, tandem: Tandem) -> None:
    digits = tuple("0123456789")
    root = write_dataset(stage.home / "digits", a_manifest(name="digits", classes=digits))
    stage.http.post("/v1/datasets", json={"root": str(root)})
    stage.add_teacher("digits-teacher", classes=digits)
    words = ("--trials", "8", "--algorithm", "random", "--scheduler", "asha", "--repeats", "2")
    wanted = (f"{CLS}=loguniform:0.1,10", "schedule.epochs=6", "--initial-point", f"{CLS}=1")

    planned = tandem("sweep", "digits/bckd", *wanted, *words, "--plan")
    said = tandem("sweep", "digits/bckd", *wanted, *words, "--name", "mine", "--pack", "2")

    assert "Up to 8 trials, 16 runs." in planned.output
    (launched,) = re.findall(r"Launched (s[0-9a-z]{12})", said.output)
    assert f"tandem trials {launched}" in said.output
    made = SimulatedSweep(stage, launched).view
    assert (made["name"], made["spec"]["pack"], made["spec"]["repeats"]) == ("mine", 2, 2)
    assert made["spec"]["base"]["schedule"]["epochs"] == 6
    assert made["spec"]["initial_points"] == [{CLS: 1}]


def test_sweeps_and_trials_are_listed(stage: Stage, tandem: Tandem) -> None:
    assert "No sweeps yet" in tandem("sweeps").output
    sweep = searching_sweep(stage)
    trained(sweep, 0, 0.3, **{CLS: 2.5, LOC: 1})
    sweep.suggest(1)

    listed, shown = tandem("sweeps").output, tandem("trials", sweep.id[:6]).output

    assert sweep.id in listed
    assert "30.0" in listed
    assert "trial 0 (cls_weight=2.5, loc_weight=1): val/bbox_mAP 30.0" in shown
    assert "running" in shown
    assert "finished" in tandem("trials", sweep.id, "--json").output


def test_a_sweep_is_watched_to_its_end(stage: Stage, tandem: Tandem) -> None:
    sweep = searching_sweep(stage)
    trained(sweep, 0, 0.3)
    closed(sweep)

    with TandemClient("http://localhost", transport=stage.transport) as client:
        ended = watch_sweep(client, sweep.id)

    assert ended.state == "succeeded"


def test_wishes_are_said(stage: Stage, tandem: Tandem, tmp_path: Path) -> None:
    sweep = searching_sweep(stage)
    trained(sweep, 0, 0.3)
    closed(sweep)
    page = tmp_path / "page.html"

    told = tandem("report", sweep.id).output
    saved = tandem("report", sweep.id[:8], "--format", "html", "--out", str(page))
    promoted = tandem("promote", sweep.id, "schedule.epochs=9", "--name", "long")
    extended = tandem("extend", sweep.id, f"{CLS}=uniform:0,5", "--trials", "3")
    stopped = tandem("stop", sweep.id)

    assert "# Did it help?" in told
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
    assert "its trials stop" in stopped.output


def test_what_is_wrong_is_refused_before_or_by_the_service(stage: Stage, tandem: Tandem) -> None:
    sweep = searching_sweep(stage)

    no_bounds = tandem("sweep", "digits/bckd", f"{CLS}=uniform:1")
    no_such = tandem("trials", "snone")
    not_over = tandem("extend", sweep.id, "--trials", "2")
    no_parameter = tandem("extend", sweep.id, "schedule.epochs=3")

    assert isinstance(no_bounds.exception, CliError)
    assert isinstance(no_such.exception, CliError)
    assert isinstance(not_over.exception, TandemApiError)
    assert isinstance(no_parameter.exception, CliError)
