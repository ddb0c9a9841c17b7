"""`tandem reproduce`, against a service with a simulated cluster."""

import re
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from configs.protocol.comparison import Difference
from configs.teacher_catalog import load_class_list
from service.cli import create_app
from service.cli.reproduction import commands
from service.cli.reproduction.report import _judge_gain
from service.client import TandemClient
from service.domain.ports import Node
from tests.support.factories import make_manifest, write_dataset
from tests.support.service.baseline_pairs import make_comparison, make_report, train_run
from tests.support.service.stage import Stage

Reproduce = Callable[..., Result]
COCO = load_class_list("coco")


@pytest.fixture
def reproduce(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Reproduce:
    """Runs the command against a service with a dataset of 1,000 images and the paper's teacher."""
    manifest = make_manifest(name="coco2017", classes=COCO)
    train = manifest.train.model_copy(update={"num_images": 1000})
    root = write_dataset(stage.home / "coco2017", manifest.model_copy(update={"train": train}))
    assert stage.http.post("/v1/datasets", json={"root": str(root)}).is_success
    stage.cluster.cluster_nodes = (Node(16.0, 2.0, 16.0, 2.0),)
    stage.add_teacher("gfl-r101-coco-2x-ms", classes=COCO)
    monkeypatch.setattr(
        commands,
        "open_client",
        lambda: TandemClient("http://localhost", transport=stage.transport),
    )
    return lambda *arguments: CliRunner(env={"COLUMNS": "200"}).invoke(
        create_app("reproduce"), ["reproduce", *arguments]
    )


def list_launched(output: str) -> dict[str, tuple[str, str]]:
    """Run and baseline by row."""
    line = re.compile(r"^(\w+): (r[0-9a-z]{12}) \(.*\), baseline (r[0-9a-z]{12})", re.MULTILINE)
    return {row: (run, baseline) for row, run, baseline in line.findall(output)}


def test_rows_are_launched_once_with_their_baselines(stage: Stage, reproduce: Reproduce) -> None:
    first = reproduce("bckd", "--rows", "r50,r18")
    second = reproduce("bckd", "--rows", "r18,r50")

    launched = list_launched(first.output)
    assert launched.keys() == {"r50", "r18"}, first.output
    assert list_launched(second.output) == launched
    run = stage.run(launched["r18"][0])
    assert (run["preset"], run["name"]) == ("coco/bckd_r18_from_r101", "bckd/r18 at 1")
    assert run["spec"]["tags"] == {"reproduces": "bckd/r18 at 1"}
    assert len(stage.http.get("/v1/runs").json()["items"]) == 4


def test_a_smaller_scale_is_another_run_with_fewer_images(
    stage: Stage, reproduce: Reproduce
) -> None:
    at_full = list_launched(reproduce("bckd", "--rows", "r50").output)
    at_tenth = list_launched(reproduce("bckd", "--rows", "r50", "--scale", "1/10").output)

    assert at_full["r50"][0] != at_tenth["r50"][0]
    spec = stage.run(at_tenth["r50"][0])["spec"]
    assert spec["data"]["train_images"] == 100
    assert spec["schedule"]["warmup"]["iterations"] == 50
    assert spec["schedule"]["policy"]["milestones"] == [8, 11]
    assert stage.run(at_tenth["r50"][1])["spec"]["data"]["train_images"] == 100


def test_methods_of_one_student_share_its_baseline(reproduce: Reproduce) -> None:
    pkd = list_launched(reproduce("pkd").output)
    bckd = list_launched(reproduce("bckd", "--rows", "r50").output)

    assert pkd["r50"][0] != bckd["r50"][0]
    assert pkd["r50"][1] == bckd["r50"][1]


def test_changes_apply_to_every_row(stage: Stage, reproduce: Reproduce) -> None:
    launched = list_launched(reproduce("crosskd", "resources.num_cpus=4").output)

    spec = stage.run(launched["r50"][0])["spec"]
    assert (spec["resources"]["num_cpus"], spec["distillation"]["method"]) == (4, "crosskd")


def test_a_dry_run_launches_nothing(stage: Stage, reproduce: Reproduce) -> None:
    planned = reproduce("bckd", "--dry-run", "--scale", "1/2")

    assert planned.exit_code == 0, planned.output
    assert planned.output.count("A baseline, the same student without a teacher") == 3
    assert "Steps: 384 (12 epochs of 32)" in planned.output
    assert stage.http.get("/v1/runs").json()["items"] == []


def test_the_report_has_published_and_measured_gains(stage: Stage, reproduce: Reproduce) -> None:
    ((run_id, baseline_id),) = list_launched(reproduce("bckd", "--rows", "r50").output).values()
    before = reproduce("bckd", "--report")
    train_run(stage, baseline_id, 0.395)
    train_run(stage, run_id, 0.424)
    gain = Difference(run=0.424, baseline=0.395, difference=0.029, low=0.02, high=0.038)
    comparison = make_comparison(run_id, baseline_id, parts={"bbox_mAP": gain})
    make_report(stage, stage.run(run_id)["report_run_id"], comparison)

    report = reproduce("bckd", "--report")

    assert f"r50: no comparison yet; {run_id} is queued." in before.output
    assert "r34: not launched." in report.output
    assert re.search(rf"{run_id} +39.5 +42.4 +\+2.9 \[\+2.0, \+3.8\]", report.output)
    assert (
        "r50: measured minus published gain is -0.2 mAP [-1.1, +0.7]: "
        "the published gain is within the interval." in report.output
    )
    assert "A published number is of a single run" in report.output


@pytest.mark.parametrize(
    ("low", "high", "judgement"),
    [
        (0.032, 0.04, "the gain is larger than published"),
        (0.01, 0.03, "the gain is smaller than published"),
    ],
)
def test_an_interval_without_the_published_gain_contradicts_it(
    low: float, high: float, judgement: str
) -> None:
    assert _judge_gain(0.031, low, high) == judgement


def test_what_a_report_does_not_use_is_refused(reproduce: Reproduce) -> None:
    refused = reproduce("bckd", "seed=1", "--report")

    assert refused.exit_code == 1
    assert "--report launches nothing" in str(refused.exception)
