"""Output of `tandem reproduce`."""

from typing import Any

from configs.spec.dataset import DatasetManifest
from service.api.schemas.registry import DatasetView
from service.api.schemas.run_lists import RunPage
from tests.support.cli.outputs import CommandLine
from tests.support.cli.runs import (
    BASELINE_ID,
    RUN_ID,
    make_comparison_view,
    make_finished_run,
    make_plan,
)
from tests.support.factories import make_manifest
from tests.support.service.run_views import NOW, make_run_summary, make_run_view

LIST = "GET /v1/runs"


def make_dataset() -> DatasetView:
    manifest: DatasetManifest = make_manifest(name="coco2017")
    return DatasetView(name="coco2017", root="/data", manifest=manifest, registered_at=NOW)


def make_report_api(run: Any) -> dict[str, Any]:
    item = make_run_summary(id=RUN_ID, baseline_run_id=BASELINE_ID)
    return {LIST: RunPage(items=[item], next_cursor=None), f"GET /v1/runs/{RUN_ID}": run}


def test_a_dry_run_shows_what_was_published_and_each_plan(command_line: CommandLine) -> None:
    api: dict[str, Any] = {
        "POST /v1/runs:plan": make_plan(),
        "GET /v1/datasets/coco2017": make_dataset(),
    }

    command_line.check(
        "reproduce_dry_run", "reproduce", "bckd", "--scale", "1/10", "--dry-run", api=api
    )


def test_a_report_at_full_scale_compares_with_the_published_gain(
    command_line: CommandLine,
) -> None:
    api = make_report_api(make_finished_run(comparison=make_comparison_view()))

    outputs = command_line.check("reproduce_report", "reproduce", "crosskd", "--report", api=api)

    assert "of the authors, of which Tandem has none" in outputs["pipe"].text
    assert "license CC BY-NC 4.0" in outputs["pipe"].text


def test_a_report_at_a_smaller_scale_says_what_it_cannot_show(command_line: CommandLine) -> None:
    api = make_report_api(make_finished_run(comparison=make_comparison_view()))

    output = command_line.run(
        "reproduce", "bckd", "--rows", "r50", "--scale", "1/10", "--report", api=api
    )

    assert "r50: Distillation helps: +2.3 mAP [+1.1, +3.5] over 2 seeds." in output.text
    assert "They cannot confirm a published mAP" in output.text
    assert "measured minus published" not in output.text


def test_one_pair_has_no_interval_and_the_command_that_trains_more(
    command_line: CommandLine,
) -> None:
    comparison = make_comparison_view().model_copy(update={"low": None, "high": None})
    api = make_report_api(make_finished_run(comparison=comparison))

    output = command_line.run("reproduce", "pkd", "--report", api=api)

    assert f"one pair has no interval; `tandem repeat {RUN_ID} --seeds 3`" in output.text


def test_a_launch_names_run_baseline_and_the_report(command_line: CommandLine) -> None:
    launched = make_run_view(id=RUN_ID, baseline_run_id=BASELINE_ID)
    api: dict[str, Any] = {
        "POST /v1/runs:plan": make_plan(),
        "POST /v1/runs": launched,
        "GET /v1/datasets": [make_dataset()],
        "GET /v1/teachers": [],
    }

    command_line.check("reproduce", "reproduce", "crosskd", api=api)


def test_a_table_that_does_not_exist_is_explained(command_line: CommandLine) -> None:
    output = command_line.run("reproduce", "bkcd")

    assert output.exit_code == 1
    assert "There is no table 'bkcd'; did you mean bckd?" in output.text
