"""Output of the complete experiments: the demo, the blood cells, and two searches."""

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

import service.cli.datasets
import service.cli.teachers
import service.stack.lifecycle as lifecycle
from configs.catalog import spec_from_preset
from configs.metric_keys import Metric
from service.api.schemas.health import HealthView
from service.api.schemas.registry import DatasetView, TeacherView
from service.api.schemas.run_details import MetricView
from service.api.schemas.run_pages import MetricPage
from service.api.schemas.runs import RunView
from service.api.schemas.sweeps import BestView, SweepPage, TrialPage
from service.api.views import to_statistics_view
from service.domain.states import RunState
from service.domain.sweeps import SweepState
from tests.support.cli.canned_api import Answer, Body
from tests.support.cli.outputs import CommandLine
from tests.support.cli.runs import (
    LATEST,
    MLFLOW_URL,
    make_comparison_view,
    make_finished_run,
    make_plan,
)
from tests.support.dataset_statistics import make_statistics
from tests.support.factories import NO_HASH, make_detector_spec, make_manifest
from tests.support.service.run_views import NOW
from tests.support.service.sweep_views import CLS, MAP, make_sweep_view, make_trial_view

GAINS = (0.031, 0.015)
"""By seed, from 0."""

REPORT_ID, TEACHER_ID = "r0f0f0f0f0f0f", "r0teacher0000"
SWEEP = make_sweep_view(
    SweepState.SUCCEEDED,
    preset="digits/sweep",
    best=BestView(trial=0, values={CLS: 2.5}, objective=0.4125),
)


def pair_ids(seed: int) -> tuple[str, str]:
    """Ids of a baseline and of its distilled run."""
    return f"rba5e{seed:08}", f"rbc4d{seed:08}"


def make_scores(run_map: float) -> MetricPage:
    values = ((Metric.MAP, run_map), (Metric.MAP_50, 0.7034), (Metric.MAP_75, 0.4821))
    return MetricPage(
        items=[MetricView(key=key, step=252, value=value, at=NOW) for key, value in values],
        next_cursor=None,
    )


def make_distilled(seed: int) -> RunView:
    baseline, distilled = pair_ids(seed)
    return make_finished_run(
        id=distilled,
        spec=spec_from_preset("digits/bckd"),
        baseline_run_id=baseline,
        comparison=make_comparison_view(),
        report_run_id=REPORT_ID,
        latest=LATEST | {Metric.TEACHER_MAP_50: 0.74, Metric.TEACHER_MAP_75: 0.53},
    )


def launch(request: bytes) -> Body:
    """Answer with the run of the request's preset and seed, which has finished."""
    body = json.loads(request)
    if body["preset"] == "bccd/teacher":
        return make_finished_run(RunState.QUEUED, id=TEACHER_ID)
    return make_distilled(body["changes"]["seed"]).model_copy(update={"state": RunState.QUEUED})


def make_api() -> dict[str, Answer]:
    datasets = {name: make_manifest(name=name) for name in ("digits", "bccd")}
    views = {
        name: DatasetView(
            name=name,
            root=f"/home/ada/.tandem/datasets/{name}",
            manifest=manifest,
            registered_at=NOW,
        )
        for name, manifest in datasets.items()
    }
    teacher = TeacherView(
        name="digits-teacher",
        checkpoint="/home/ada/.tandem/teachers/digits-teacher.pth",
        sha256=NO_HASH,
        detector=make_detector_spec(),
        classes=("cat", "dog"),
        measured_map=0.7396,
        source="preset digits/teacher (seed 7)",
        registered_at=NOW,
    )
    api: dict[str, Answer] = {
        "GET /readyz": HealthView(status="ready", mlflow_url=MLFLOW_URL, runs_by_state={}),
        "POST /v1/datasets": lambda body: views[json.loads(body)["name"]],
        "GET /v1/datasets": list(views.values()),
        "GET /v1/datasets/bccd/statistics": to_statistics_view("bccd", make_statistics()),
        "POST /v1/teachers": teacher,
        "GET /v1/teachers": [teacher],
        "POST /v1/runs:plan": make_plan(),
        "POST /v1/runs": launch,
        f"GET /v1/runs/{REPORT_ID}": make_finished_run(id=REPORT_ID),
        f"GET /v1/runs/{TEACHER_ID}": make_finished_run(
            id=TEACHER_ID, finished_at=NOW + timedelta(hours=1)
        ),
    }
    for seed, gain in enumerate(GAINS):
        baseline, distilled = pair_ids(seed)
        api |= {
            f"GET /v1/runs/{baseline}": make_finished_run(id=baseline, baseline_run_id=None),
            f"GET /v1/runs/{distilled}": make_distilled(seed),
            f"GET /v1/runs/{baseline}/metrics": make_scores(0.4512 - gain),
            f"GET /v1/runs/{distilled}/metrics": make_scores(0.4512),
            f"GET /v1/runs/{distilled}/report": "<h1>Did it help?</h1>",
        }
    return api


def make_sweep_api() -> dict[str, Answer]:
    trials = [make_trial_view(0, state="finished", objectives={MAP: 0.4125}, epoch=2)]
    return make_api() | {
        "POST /v1/sweeps": SWEEP,
        "GET /v1/sweeps": SweepPage(items=[SWEEP], next_cursor=None),
        f"GET /v1/sweeps/{SWEEP.id}": SWEEP,
        f"GET /v1/sweeps/{SWEEP.id}/trials": TrialPage(items=trials, next_cursor=None),
        f"GET /v1/sweeps/{SWEEP.id}/report": "<h1>Which weights?</h1>",
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of commands, on a machine whose stack runs and has its datasets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lifecycle, "start_stack", lambda _config, **_options: None)
    monkeypatch.setattr(service.cli.datasets, "_write_dataset", lambda *_, **_options: True)
    settings = SimpleNamespace(teachers_dir=tmp_path / "teachers")
    monkeypatch.setattr(service.cli.teachers, "load_settings", lambda: settings)
    # The folder's name differs from call to call.
    monkeypatch.setattr(Path, "as_uri", lambda file: f"file:///home/ada/{file.name}")
    return tmp_path


def test_demo(command_line: CommandLine, folder: Path) -> None:
    outputs = command_line.check("demo", "demo", "--seeds", "0,1", api=make_api())

    for output in outputs.values():
        assert "mean gain of 2 seeds" in output.text
        assert "Distillation helps: +2.3 mAP" in output.text
    assert (folder / "demo-report.html").read_text() == "<h1>Did it help?</h1>"


def test_bccd_trains_its_teacher_first(command_line: CommandLine, folder: Path) -> None:
    (folder / "BCCD").mkdir()

    outputs = command_line.check("bccd", "bccd", "--data", "BCCD", api=make_api())

    for output in outputs.values():
        assert "1 h 00 min" in output.text


@pytest.mark.parametrize(
    ("command", "page"),
    [("sweep-demo", "sweep-report.html"), ("demo-search", "demo-search.html")],
    ids=["sweep-demo", "demo-search"],
)
def test_a_search_writes_its_report(
    command_line: CommandLine, folder: Path, command: str, page: str
) -> None:
    outputs = command_line.check(command.replace("-", "_"), command, api=make_sweep_api())

    assert outputs["pipe"].text.endswith(f"Wrote {page}.\n")
    assert (folder / page).read_text() == "<h1>Which weights?</h1>"
