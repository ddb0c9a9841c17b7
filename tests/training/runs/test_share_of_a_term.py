"""A run whose weights follow shares of the gradient: what they reach and what is reported."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.protocol.names import ExitCode, RunFile
from tests.support.training.digits import write_digits
from tests.support.training.runs import STUDENT, make_spec, read_metric_values, read_records
from workers.attempt.stop import Termination
from workers.data.digits import CLASSES
from workers.jobs.train import train
from workers.process import compat
from workers.telemetry.identity import AttemptIdentity

EPOCHS, STEPS_PER_EPOCH = 8, 5
LOC = "distillation.loc_weight"
DISTILLATION: dict[str, Any] = {
    "method": "bckd",
    "cls_weight": {"share": 0.3, "every_steps": 1, "rate": 0.3},
    "loc_weight": {"share": 0.3, "every_steps": 1, "rate": 0.3, "value": 1.0, "max": 1.2},
}


def train_in_process(spec: Mapping[str, Any], run_dir: Path) -> ExitCode:
    compat.apply_patches()
    run_dir.mkdir()
    return train(
        parse_spec(dict(spec)),
        identity=AttemptIdentity(run_id=run_dir.name),
        run_dir=run_dir,
        termination=Termination(),
    )


def make_distilled_spec(folder: Path, **weights: Any) -> dict[str, Any]:
    """Builds a run with the teacher of a folder."""
    spec = make_spec(folder / "digits")
    evaluation = spec["evaluation"] | {"every_epochs": EPOCHS}
    schedule = spec["schedule"] | {"epochs": EPOCHS}
    teacher = {
        "checkpoint": str(folder / "teacher" / RunFile.BEST),
        "detector": STUDENT,
        "classes": list(CLASSES),
    }
    return spec | {
        "teacher": teacher,
        "distillation": DISTILLATION | weights,
        "schedule": schedule,
        "evaluation": evaluation,
        "loss_shares_every_steps": 10,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    digits = write_digits(folder / "digits", train=8 * STEPS_PER_EPOCH, val=5)
    spec = make_spec(digits, seed=9)
    lesson = spec | {"schedule": spec["schedule"] | {"epochs": 1}}
    assert train_in_process(lesson, folder / "teacher") is ExitCode.SUCCEEDED
    assert train_in_process(make_distilled_spec(folder), folder / "run") is ExitCode.SUCCEEDED
    return folder


def read_values(run_dir: Path, key: str) -> dict[int, float]:
    """The values of a metric by step."""
    return {step: value for (k, step), value in read_metric_values(run_dir).items() if k == key}


def test_a_share_is_reached_and_held(folder: Path) -> None:
    shares = read_values(folder / "run", "train/share_distill_cls")

    second_half = [share for step, share in shares.items() if step > EPOCHS * STEPS_PER_EPOCH / 2]
    assert len(second_half) == EPOCHS / 2
    assert fmean(second_half) == pytest.approx(0.3, abs=0.05)


def test_the_measured_share_is_that_of_the_loss_shares(folder: Path) -> None:
    shares = read_values(folder / "run", "train/share_distill_cls")

    loss_shares = read_values(folder / "run", "loss_share/distill_cls/all/share")

    assert loss_shares.keys() == {10, 20, 30, 40}
    for step, share in loss_shares.items():
        assert share == pytest.approx(shares[step], rel=1e-4)


def test_a_bound_holds_and_is_reported_once(folder: Path) -> None:
    weights = read_values(folder / "run", "train/weight_distill_loc")

    notes = [r["text"] for r in read_records(folder / "run") if r["kind"] == "note"]

    assert max(weights.values()) == 1.2
    (note,) = [note for note in notes if LOC in note]
    assert note.startswith(f"{LOC} has reached its max of 1.2 at step ")
    assert note.endswith(f"Set {LOC}.max to let it go further.")


def test_a_share_that_would_never_be_measured_is_refused(folder: Path, tmp_path: Path) -> None:
    share = {"share": 0.3, "every_steps": EPOCHS * STEPS_PER_EPOCH + 1}

    code = train_in_process(make_distilled_spec(folder, loc_weight=share), tmp_path / "run")

    last = read_records(tmp_path / "run")[-1]
    assert code is ExitCode.REFUSED
    assert f"{LOC}.every_steps is 41, but its term ends before" in last["message"]
