"""What the command line answers to typing errors, and that its advice works when followed."""

import re
import shlex
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console
from typer.testing import CliRunner

import service.client
import service.client_reads
from service.cli import create_app, session
from service.cli.errors import explain_error, render_error
from service.client import TandemClient
from tests.support.factories import make_manifest, make_spec, write_dataset
from tests.support.service.stage import Stage

DIGITS = tuple("0123456789")
Tandem = Callable[[str], str]


@pytest.fixture
def tandem(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tandem]:
    """Runs a command line against the service of `stage`; returns what a person reads."""

    class LocalClient(TandemClient):
        def __init__(self, url: str, *, token: str | None = None) -> None:
            super().__init__(url, token=token, transport=stage.transport)

    monkeypatch.setattr(service.client, "TandemClient", LocalClient)
    monkeypatch.setattr(service.client_reads, "RunReader", LocalClient)
    monkeypatch.setenv("TANDEM_HOME", str(stage.home))
    session.load_settings.cache_clear()
    runner = CliRunner(env={"COLUMNS": "200"})

    def run(command: str) -> str:
        result = runner.invoke(create_app(), shlex.split(command))
        if result.exception is None or isinstance(result.exception, SystemExit):
            return str(result.output)
        assert isinstance(result.exception, Exception)
        message = explain_error(result.exception)
        assert message is not None, result.exception
        console = Console(width=300, no_color=True)
        with console.capture() as capture:
            console.print(render_error(message))
        return capture.get()

    yield run
    session.load_settings.cache_clear()


def register_digits(stage: Stage, name: str) -> None:
    root = write_dataset(stage.home / "datasets" / name, make_manifest(name=name, classes=DIGITS))
    stage.http.post("/v1/datasets", json={"root": str(root)}).raise_for_status()


ANSWERS = {
    "a group of the spec": (
        "run quick/instant distilation.loc_weight=4",
        "distilation: there is no such field; did you mean distillation?",
    ),
    "a method that is missing": (
        "run quick/instant distillation.loc_weight=4",
        "distillation.method: this field is required; it is one of none, bckd",
    ),
    "a preset": (
        "run quick/instnat",
        "preset: There is no preset 'quick/instnat'; did you mean quick/instant?",
    ),
    "a parameter of a sweep": (
        "sweep quick/instant distilation.cls_weight=loguniform:1,4",
        "space: distilation.cls_weight cannot be swept; did you mean distillation.cls_weight?",
    ),
    "an algorithm": (
        "sweep quick/instant schedule.epochs=int:1,4 --algorithm tpee",
        "algorithm.kind: needs to be one of grid, random, tpe or coordinate, got 'tpee'; "
        "did you mean tpe?",
    ),
    "a priority": ("run quick/instant --priority 1000", "priority: needs at most 100, got 1000"),
    "a dataset": (
        "run quick/instant data.dataset.name=digits-tny",
        "No dataset is called 'digits-tny'. Did you mean digits-tiny?",
    ),
    "a teacher": (
        "run quick/instant_bckd teacher.name=digits-techer",
        "No teacher is called 'digits-techer'. Did you mean digits-teacher?",
    ),
    "a dataset of an evaluation": (
        "evaluate digits-teacher --data digits-tinny --size 96x96",
        "No dataset is called 'digits-tinny'. Did you mean digits-tiny?",
    ),
    "a command": ("presetz", "Did you mean 'presets'"),
    "a command in the singular": ("token list", "Did you mean 'tokens'?"),
    "a command of a group": ("teachers fech digits-teacher", "Did you mean 'fetch'?"),
    "an option": ("run quick/instant --wach", "--watch"),
    "a teacher to fetch": (
        "teachers fetch digits-techer",
        "There is no known teacher 'digits-techer'; did you mean digits-teacher?",
    ),
}


def test_a_typing_error_is_answered_with_what_was_meant(stage: Stage, tandem: Tandem) -> None:
    register_digits(stage, "digits-tiny")
    stage.add_teacher("digits-teacher", classes=DIGITS)

    for case, (command, answer) in ANSWERS.items():
        text = tandem(command)

        assert answer in text, case
        for wording in ("Extra inputs", "Unable to extract", "Input should", "pydantic"):
            assert wording not in text, case


def test_a_mistyped_id_is_answered_with_the_similar_one(stage: Stage, tandem: Tandem) -> None:
    stage.add_dataset()
    run_id = stage.launch(spec=make_spec(), name="mine")["id"]
    mistyped = run_id[:5] + ("x" if run_id[5] != "x" else "y") + run_id[6:]

    assert f"Did you mean {run_id}?" in tandem(f"show {mistyped}")
    assert f"The newest run of this name is {run_id}." in tandem("show mine")
    assert "`tandem runs --all` lists every run." in tandem("show rzzz")


def test_the_id_of_a_sweep_is_not_the_id_of_a_run(stage: Stage, tandem: Tandem) -> None:
    register_digits(stage, "digits-tiny")
    run_id = stage.launch(preset="quick/instant")["id"]
    space = {"schedule.epochs": {"kind": "integer", "low": 1, "high": 3}}
    body = {"preset": "quick/instant", "space": space}
    sweep_id = stage.http.post("/v1/sweeps", json=body).json()["id"]

    assert f"`tandem trials {sweep_id}` shows it." in tandem(f"show {sweep_id}")
    assert f"`tandem show {run_id}` shows it." in tandem(f"trials {run_id}")
    assert "`tandem sweeps` lists every sweep." in tandem("trials szzz")


def test_the_advice_about_a_missing_dataset_works(stage: Stage, tandem: Tandem) -> None:
    text = tandem("run quick/instant")

    (name,) = re.findall(r"`tandem data digits --name ([\w-]+)`", text)
    register_digits(stage, name)
    assert "Launched" in tandem("run quick/instant")


def test_the_advice_about_a_missing_teacher_works(stage: Stage, tandem: Tandem) -> None:
    """From `quick/instant_bckd` to `quick/instant` and back, by what the answers say alone."""
    register_digits(stage, "digits-tiny")

    first = tandem("run quick/instant_bckd")
    (command,) = re.findall(r"Train it with `tandem (run [\w/]+)`", first)
    assert "Launched" in tandem(command)
    second = tandem("run quick/instant_bckd")
    (change,) = re.findall(r"'(teacher=\{run: r[0-9a-z]{12}\})'", second)

    assert "Launched" in tandem(f"run quick/instant_bckd '{change}'")


def test_a_comparison_on_own_images_refuses_typing_errors_before_it_starts_anything(
    tandem: Tandem,
) -> None:
    preset = tandem("distill pets --preset bccd/bkd")
    field = tandem("distill pets schedule.epoch=3")

    assert "There is no preset 'bccd/bkd'; did you mean bccd/bckd?" in preset
    assert "`tandem presets`" in preset
    assert "schedule.epoch: there is no such field; did you mean schedule.epochs?" in field
