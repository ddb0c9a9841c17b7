"""The URLs of MLflow's pages in a browser: each shows the mAP of a pair, without a click."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from configs.metric_keys import Metric, gain_metric, loss_share_metric
from configs.protocol.names import RunFile, Tag
from configs.spec.run import RunSpec
from configs.spec.search import Uniform
from configs.spec.sweep import SweepSpec
from service.adapters.mlflow import MlflowTracker
from service.domain.mlflow_views import PAIRS_VIEW, build_sweep_view_tags
from service.domain.runs import Run
from service.domain.sweeps import Sweep, SweepState
from service.usecases.context import Context
from service.usecases.tracking import describe_tracked_run, find_compare_url, prepare_experiment
from tests.support.chromium import IS_INSTALLED, Chromium
from tests.support.service.baseline_pairs import launch_pair
from tests.support.service.stage import open_stage
from tests.support.stack.mlflow_runs import find_mlflow_run
from tests.support.stack.mlflow_server import MlflowServer
from workers.telemetry.identity import AttemptIdentity
from workers.telemetry.reporter import SpoolReporter

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not IS_INSTALLED, reason="apt-get install chromium"),
]

DISTILLED_NAME, BASELINE_NAME = "BCKD student", "student alone"
DISTILLED_MAP, BASELINE_MAP = 0.3301, 0.3075
PROJECT = "default"
SECTIONS = {"val", "gain", "train", "teacher"}


@dataclass(frozen=True)
class TrackedPair:
    """A distilled run and its baseline, which MLflow has too."""

    ctx: Context
    run: Run
    baseline: Run

    @property
    def mlflow_run_id(self) -> str:
        assert self.run.tracking.mlflow_run_id is not None
        return self.run.tracking.mlflow_run_id


@pytest.fixture(scope="module")
def pair(server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackedPair]:
    home = tmp_path_factory.mktemp("home")
    with open_stage(home) as stage, closing(MlflowTracker(server.url)) as tracker:
        run_id, baseline_id = launch_pair(stage)
        ctx = replace(stage.ctx, tracker=tracker, mlflow_public_url=server.url)
        prepare_experiment(PROJECT, ctx=ctx)
        log_run(server, home / "logged", run_id, ctx=ctx, name=DISTILLED_NAME, score=DISTILLED_MAP)
        log_run(
            server, home / "logged", baseline_id, ctx=ctx, name=BASELINE_NAME, score=BASELINE_MAP
        )
        run, baseline = (track_run(server, item, ctx=ctx) for item in (run_id, baseline_id))
        for item in (run, baseline):
            describe_tracked_run(item, item.tracking.mlflow_run_id or "", ctx=ctx)
        yield TrackedPair(ctx, run, baseline)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


def test_the_table_of_runs_has_map(pair: TrackedPair, browser: Chromium) -> None:
    browser.open(pair.ctx.mlflow_pages.runs(PROJECT))

    text = browser.wait_for_text(shows_both_scores)

    assert f"{DISTILLED_NAME}\n" in text
    assert f"{BASELINE_NAME}\n" in text
    assert "table with mAP" in text  # the description of the experiment


def test_pairs_are_grouped(pair: TrackedPair, browser: Chromium) -> None:
    browser.open(pair.ctx.mlflow_pages.runs(PROJECT, view=PAIRS_VIEW))

    text = browser.wait_for_text(shows_both_scores)

    assert f"Group: {pair.baseline.id}" in text


def test_charts_begin_with_map(pair: TrackedPair, browser: Chromium) -> None:
    browser.open(pair.ctx.mlflow_pages.runs(PROJECT, has_charts=True))

    text = browser.wait_for_text(lambda text: set(text.splitlines()) >= SECTIONS)

    sections = [line for line in text.splitlines() if line in SECTIONS]
    assert sections[0] == "val"
    assert "loss_share" not in text


def test_the_comparison_shows_map_of_both(pair: TrackedPair, browser: Chromium) -> None:
    with pair.ctx.store.snapshot() as uow:
        url = find_compare_url(uow, pair.run, comparison=None, pages=pair.ctx.mlflow_pages)
    assert url is not None
    browser.open(url)

    text = browser.wait_for_text(shows_both_scores)

    assert "Comparing 2 Runs" in text
    assert f"{DISTILLED_MAP} (step=20)" in text
    assert f"{BASELINE_MAP} (step=20)" in text


def test_the_description_of_a_run_leads_to_the_comparison(
    pair: TrackedPair, browser: Chromium
) -> None:
    browser.open(pair.ctx.mlflow_pages.run(pair.mlflow_run_id, project=PROJECT))
    browser.wait_for_text(lambda text: "mAP beside the baseline" in text)

    link = browser.evaluate("""document.querySelector('a[href*="/metric?"]').href""")
    browser.open(link)

    assert "Comparing 2 Runs" in browser.wait_for_text(shows_both_scores)


def test_a_sweep_shows_its_trials(pair: TrackedPair, browser: Chromium) -> None:
    sweep = make_sweep(pair)
    experiment_id = pair.ctx.mlflow_experiment_ids[PROJECT]
    pair.ctx.tracker.set_experiment_tags(experiment_id, build_sweep_view_tags(sweep))
    pair.ctx.tracker.set_tags(pair.mlflow_run_id, {Tag.PARENT: "p1"})
    browser.open(pair.ctx.mlflow_pages.runs(PROJECT, view=sweep.id))

    text = browser.wait_for_text(lambda text: str(DISTILLED_MAP) in text)

    assert "1 matching run" in text
    assert "distillation.loc_weight" in text
    assert BASELINE_NAME not in text


def shows_both_scores(text: str) -> bool:
    return str(DISTILLED_MAP) in text and str(BASELINE_MAP) in text


def log_run(
    server: MlflowServer, folder: Path, run_id: str, *, ctx: Context, name: str, score: float
) -> None:
    """Log what a worker logs in two epochs."""
    run_dir = folder / run_id
    run_dir.mkdir(parents=True)
    with ctx.store.transaction() as uow:
        spec = uow.runs.get(run_id).spec
    (run_dir / RunFile.SPEC).write_text(spec.model_dump_json())
    identity = AttemptIdentity(run_id=run_id, mlflow_url=server.url, name=name)
    share = loss_share_metric("loss_distill_cls", "share", level=None)
    with SpoolReporter.open(run_dir, identity=identity, spec=spec) as reporter:
        for step, value in ((10, score / 2), (20, score)):
            losses = {Metric.LOSS: 2.0, Metric.LOSS_CLS: 1.0, share: 0.2}
            reporter.report_metrics(step=step, values=losses)
            reporter.report_metrics(step=step, values={Metric.MAP: value, Metric.MAP_50: value})
        if name == DISTILLED_NAME:
            gain = {gain_metric("bbox_mAP"): DISTILLED_MAP - BASELINE_MAP}
            reporter.report_metrics(step=20, values={Metric.TEACHER_MAP: 0.4, **gain})
        reporter.report_outcome("succeeded", best_map=score)


def track_run(server: MlflowServer, run_id: str, *, ctx: Context) -> Run:
    """Store the id of the MLflow run, as a delivery of the worker does."""
    mlflow_run_id = find_mlflow_run(server.url, run_id).info.run_id
    with ctx.store.transaction() as uow:
        run = uow.runs.get_for_update(run_id)
        tracked = replace(run, tracking=replace(run.tracking, mlflow_run_id=mlflow_run_id))
        uow.runs.save(tracked)
    return tracked


def make_sweep(pair: TrackedPair) -> Sweep:
    assert isinstance(pair.run.spec, RunSpec)
    space = {"distillation.loc_weight": Uniform(low=0.0, high=4.0, when={})}
    now = pair.ctx.clock.now()
    return Sweep(
        id="s1",
        name="weights",
        preset=None,
        spec=SweepSpec(base=pair.run.spec, space=space, tags={}),
        state=SweepState.SEARCHING,
        created_at=now,
        updated_at=now,
        created_by="me",
        mlflow_run_id="p1",
    )
