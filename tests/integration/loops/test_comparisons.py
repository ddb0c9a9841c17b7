"""Reports of runs and their baselines: created once after any crash, shown and tracked."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from configs.protocol.names import RunFile, Tag
from configs.protocol.report import ReportInputs
from service.adapters.simulated import SimulatedTracker
from service.domain.errors.systems import TrackerUnreachable
from service.loops.comparisons import compare_baselines
from service.usecases.reports import enqueue_comparison_report
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.baseline_pairs import (
    end_job,
    launch_pair,
    list_event_kinds,
    make_comparison,
    make_report,
    start_attempt,
    train_run,
)
from tests.support.service.runs import list_run_ids, run_loop_step
from tests.support.service.stage import SLOW_ON_POSTGRESQL, Stage


class TestComparing:
    @SLOW_ON_POSTGRESQL
    def test_when_both_have_succeeded_one_report_is_made_and_its_verdict_shown(
        self, any_stage: Stage
    ) -> None:
        run_id, baseline_id = launch_pair(any_stage)
        train_run(any_stage, baseline_id, 0.307)
        assert any_stage.run(run_id)["report_run_id"] is None
        train_run(any_stage, run_id, 0.33, teacher=0.4, has_mlflow_run=True)

        report_id = any_stage.run(run_id)["report_run_id"]
        for _ in range(3):
            any_stage.run_loops()
        assert any_stage.run(run_id)["report_run_id"] == report_id
        make_report(any_stage, report_id, make_comparison(run_id, baseline_id))

        report = any_stage.run(report_id)
        assert (report["task"], report["name"]) == (
            "report",
            f"report of {any_stage.run(run_id)['name']}",
        )
        assert report["spec"]["resources"]["num_cpus"] == 1
        assert any_stage.run(run_id)["comparison"] == {
            "verdict": "helps",
            "seed_spread": "noise_floor",
            "conclusion": (
                "Distillation helps: +2.3 mAP [+1.1, +3.5] with one seed and the known noise "
                "floor; closes 41 % of the gap to its teacher."
            ),
            "difference": 0.023,
            "low": 0.011,
            "high": 0.035,
            "teacher_map": 0.4,
            "gap_closed": 0.41,
            "basis": "the noise floor of 5 runs",
            "images": None,
            "gains": [],
        }
        runs = any_stage.http.get("/v1/runs").json()["items"]
        assert [run["id"] for run in runs if run["verdict"]] == [run_id]
        assert len(runs) == 3

    def test_the_report_is_told_everything(self, stage: Stage) -> None:
        run_id, baseline_id = launch_pair(stage)
        train_run(stage, run_id, 0.33, teacher=0.4)
        train_run(stage, baseline_id, 0.3)
        report_id = stage.run(run_id)["report_run_id"]
        start_attempt(stage, report_id)

        command = stage.cluster.job_requests[f"{report_id}-a1"].command
        folder = stage.home / "runs" / report_id

        inputs = ReportInputs.model_validate_json((folder / RunFile.REPORT_INPUTS).read_text())
        distilled, baseline = inputs.runs
        assert command[:2] == ("tandem-worker", "report")
        assert (distilled.id, distilled.role, distilled.baseline) == (
            run_id,
            "distilled",
            baseline_id,
        )
        assert (baseline.id, baseline.role, baseline.baseline) == (baseline_id, "baseline", None)
        assert (distilled.best_map, baseline.best_map) == (0.33, 0.3)
        assert distilled.teacher["bbox_mAP"] == 0.4
        assert baseline.teacher == {}
        assert [point.epoch for point in distilled.curve] == [1.0, 2.0]
        assert distilled.curve[1].values["val/bbox_mAP"] == 0.33
        assert distilled.folder == str(stage.home / "runs" / run_id)
        assert inputs.dataset.root == str(stage.home / "datasets" / "pets")
        spec = json.loads((folder / RunFile.SPEC).read_text())
        assert spec == stage.run(report_id)["spec"]
        assert "inputs" not in spec

    def test_a_baseline_that_fails_is_told_once_and_there_is_no_verdict(self, stage: Stage) -> None:
        run_id, baseline_id = launch_pair(stage)
        train_run(stage, run_id, 0.33)
        start_attempt(stage, baseline_id)
        end_job(stage, baseline_id, "failed", exit_code=1)

        for _ in range(3):
            stage.run_loops()

        run = stage.run(run_id)
        assert (run["report_run_id"], run["comparison"], run["is_baseline_lost"]) == (
            None,
            None,
            True,
        )
        assert list_event_kinds(stage, run_id).count("baseline_lost") == 1

    @SLOW_ON_POSTGRESQL
    def test_a_baseline_that_is_retried_counts_again(self, any_stage: Stage) -> None:
        run_id, baseline_id = launch_pair(any_stage)
        any_stage.http.post(f"/v1/runs/{baseline_id}:cancel")
        train_run(any_stage, run_id, 0.33)

        any_stage.http.post(f"/v1/runs/{baseline_id}:retry")
        any_stage.run_loops()
        train_run(any_stage, baseline_id, 0.3)

        assert list_event_kinds(any_stage, run_id)[-3:] == [
            "baseline_lost",
            "baseline_recovered",
            "report_requested",
        ]
        assert any_stage.run(run_id)["is_baseline_lost"] is False

    def test_what_was_refused_a_baseline_is_not_compared(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        run_id = stage.launch(spec=make_bckd_spec(), baseline="off")["id"]

        train_run(stage, run_id, 0.33)

        assert stage.run(run_id)["report_run_id"] is None

    def test_a_comparison_with_a_run_of_another_project_is_not_kept(self, stage: Stage) -> None:
        run_id, report_id = make_reported_run(stage)
        stage.add_dataset()
        other_run_id = stage.launch(spec=make_spec(), project="theirs")["id"]

        make_report(stage, report_id, make_comparison(other_run_id, run_id))

        assert stage.run(other_run_id)["comparison"] is None

    def test_a_report_without_a_verdict_is_told(self, stage: Stage) -> None:
        run_id, report_id = make_reported_run(stage)

        make_report(stage, report_id)

        assert list_event_kinds(stage, run_id)[-2:] == ["report_requested", "no_verdict"]
        assert stage.run(run_id)["comparison"] is None

    def test_a_report_that_cannot_be_read_is_told_once(self, stage: Stage) -> None:
        run_id, report_id = make_reported_run(stage)
        start_attempt(stage, report_id)
        end_job(stage, report_id, "succeeded", exit_code=0)

        stage.run_loops()

        assert stage.run(run_id)["comparison"] is None
        assert list_event_kinds(stage, report_id) == ["launched", "report_rejected"]

    def test_a_report_that_is_too_large_is_not_read(self, stage: Stage) -> None:
        run_id, report_id = make_reported_run(stage)
        start_attempt(stage, report_id)
        for name in (RunFile.REPORT_JSON, RunFile.REPORT_PAGE):
            path = stage.home / "runs" / report_id / name
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.truncate(2**26 + 1)
        end_job(stage, report_id, "succeeded", exit_code=0)

        stage.run_loops()
        response = stage.http.get(f"/v1/runs/{run_id}/report")

        events = stage.http.get(f"/v1/runs/{report_id}/events").json()["items"]
        assert "report.json has 67108865 bytes" in events[-1]["details"]
        assert (response.status_code, response.json()["code"]) == (422, "file_too_large")


class TestShowing:
    def test_mlflow_has_the_gain_and_the_verdict(self, stage: Stage) -> None:
        run_id, baseline_id = make_compared_pair(stage)

        assert stage.tracker.metrics[f"m-{run_id}"] == {
            "gain/bbox_mAP": 0.023,
            "gain/bbox_mAP_s": -0.01,
        }
        tags = stage.tracker.tags[f"m-{run_id}"]
        assert {key: value for key, value in tags.items() if key not in (Tag.NOTE, Tag.PAIR)} == {
            "tandem.verdict": "helps",
            "tandem.seed_spread": "noise_floor",
            "tandem.conclusion": stage.run(run_id)["comparison"]["conclusion"],
            "tandem.baseline_run_id": baseline_id,
            "tandem.gain_low": "0.011",
            "tandem.gain_high": "0.035",
        }

    def test_an_outage_of_mlflow_is_caught_up(self, stage: Stage) -> None:
        run_id, baseline_id = launch_pair(stage)
        train_run(stage, baseline_id, 0.3)
        train_run(stage, run_id, 0.33, has_mlflow_run=True)
        report_id = stage.run(run_id)["report_run_id"]
        start_attempt(stage, report_id)
        write = make_comparison(run_id, baseline_id)
        stage.tracker.is_reachable = False
        with pytest.raises(Exception, match="unreachable"):
            make_report(stage, report_id, write)
        run_loop_step(stage, "compare")
        assert stage.run(run_id)["comparison"]["verdict"] == "helps"
        assert stage.tracker.metrics == {}

        stage.tracker.is_reachable = True
        run_loop_step(stage, "compare")
        stage.tracker.metrics.clear()
        run_loop_step(stage, "compare")

        assert stage.tracker.metrics == {}, "it was told again"
        assert stage.tracker.tags[f"m-{run_id}"]["tandem.verdict"] == "helps"

    def test_a_run_that_was_deleted_in_mlflow_is_not_told_for_ever(self, stage: Stage) -> None:
        run_id, baseline_id = launch_pair(stage)
        train_run(stage, baseline_id, 0.3)
        train_run(stage, run_id, 0.33, has_mlflow_run=True)
        stage.tracker.deleted.add(f"m-{run_id}")
        make_report(stage, stage.run(run_id)["report_run_id"], make_comparison(run_id, baseline_id))

        with stage.ctx.store.transaction() as uow:
            assert uow.comparisons.not_synced() == []

    def test_a_newer_report_is_shown_again(self, stage: Stage) -> None:
        run_id, baseline_id = make_compared_pair(stage)
        stage.clock.advance(60)
        newer_report_id = stage.http.post(f"/v1/runs/{run_id}:report").json()["id"]

        make_report(
            stage, newer_report_id, make_comparison(run_id, baseline_id, verdict="cannot_tell")
        )

        assert stage.run(run_id)["comparison"]["verdict"] == "cannot_tell"
        assert stage.tracker.tags[f"m-{run_id}"]["tandem.verdict"] == "cannot_tell"


class TestServing:
    @pytest.mark.parametrize(
        ("form", "kind", "prefix"),
        [
            ("html", "text/html", "<h1>"),
            ("md", "text/markdown", "# Did"),
            ("json", "application/json", "{"),
        ],
    )
    def test_a_report_is_served_in_each_form(
        self, stage: Stage, form: str, kind: str, prefix: str
    ) -> None:
        run_id, _ = make_compared_pair(stage)

        response = stage.http.get(f"/v1/runs/{run_id}/report", params={"format": form})

        assert response.headers["content-type"].startswith(kind)
        assert response.text.startswith(prefix)
        policy = response.headers["content-security-policy"]
        assert "script-src" not in policy
        assert "style-src 'unsafe-inline'" in policy

    def test_without_one_it_is_said_what_to_do(self, stage: Stage) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=make_spec())["id"]

        waiting = stage.http.get(f"/v1/runs/{run_id}/report")
        train_run(stage, run_id, 0.3)
        response = stage.http.get(f"/v1/runs/{run_id}/report")

        assert (waiting.status_code, response.status_code) == (404, 404)
        assert waiting.json()["code"] == "report_not_found"
        assert f"POST /v1/runs/{run_id}:report" in response.json()["detail"]

    def test_one_is_made_of_any_run_that_succeeded_and_again_when_asked_again(
        self, stage: Stage
    ) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=make_spec())["id"]
        too_early = stage.http.post(f"/v1/runs/{run_id}:report")
        train_run(stage, run_id, 0.3)

        first = stage.http.post(f"/v1/runs/{run_id}:report")
        concurrent = stage.http.post(f"/v1/runs/{run_id}:report")
        make_report(stage, first.json()["id"])
        repeated = stage.http.post(f"/v1/runs/{run_id}:report")

        assert too_early.status_code == 422
        assert (first.status_code, concurrent.status_code, repeated.status_code) == (201, 200, 201)
        assert concurrent.json()["id"] == first.json()["id"] != repeated.json()["id"]

    def test_one_that_failed_says_so_and_can_be_retried(self, stage: Stage) -> None:
        run_id, report_id = make_reported_run(stage)
        start_attempt(stage, report_id)
        end_job(stage, report_id, "failed", exit_code=1)

        response = stage.http.get(f"/v1/runs/{run_id}/report")

        assert response.status_code == 404
        assert f"tandem retry {report_id}" in response.json()["detail"]


class TestKilledInBetween:
    def test_a_report_is_booked_with_its_note_or_not_at_all(self, stage: Stage) -> None:
        run_id, baseline_id = launch_pair(stage)
        train_run(stage, run_id, 0.33)
        train_run(stage, baseline_id, 0.3)
        first = stage.run(run_id)["report_run_id"]

        enqueue_comparison_report(run_id, ctx=stage.ctx)

        assert stage.run(run_id)["report_run_id"] == first
        assert len(list_run_ids(stage)) == 3

    def test_what_was_shown_but_not_noted_is_shown_the_same_again(self, stage: Stage) -> None:
        make_compared_pair(stage)
        before = json.dumps(stage.tracker.metrics, sort_keys=True)
        stage.execute_sql("UPDATE comparisons SET mlflow_synced = 0")
        stage.clock.advance(100)

        stage.run_loops()

        assert json.dumps(stage.tracker.metrics, sort_keys=True) == before
        with stage.ctx.store.transaction() as uow:
            assert uow.comparisons.not_synced() == []

    def test_mlflow_that_goes_away_between_number_and_tag_has_both_once(self, stage: Stage) -> None:
        run_id, _ = make_compared_pair(stage)
        stage.execute_sql("UPDATE comparisons SET mlflow_synced = 0")
        stage.tracker.tags.clear()
        with pytest.raises(TrackerUnreachable):
            compare_baselines(replace(stage.ctx, tracker=Dropping(runs=stage.tracker.runs)))

        stage.run_loops()

        assert stage.tracker.metrics[f"m-{run_id}"]["gain/bbox_mAP"] == 0.023
        assert stage.tracker.tags[f"m-{run_id}"]["tandem.verdict"] == "helps"
        with stage.ctx.store.transaction() as uow:
            assert uow.comparisons.not_synced() == []

    def test_a_baseline_that_cannot_be_stored_takes_its_run_along(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        stage.execute_sql(
            "CREATE TRIGGER no_twin BEFORE INSERT ON runs WHEN NEW.name LIKE '%, baseline' "
            "BEGIN SELECT RAISE(ABORT, 'killed'); END"
        )

        response = stage.http.post("/v1/runs", json={"spec": make_bckd_spec()})

        assert response.status_code >= 500
        assert list_run_ids(stage) == []

    def test_a_report_that_was_kept_is_not_kept_again(self, stage: Stage) -> None:
        run_id, baseline_id = make_compared_pair(stage)
        report_id = stage.run(run_id)["report_run_id"]
        stage.execute_sql("DELETE FROM comparisons")

        stage.run_loops()

        assert stage.run(run_id)["comparison"] is None
        assert report_id != baseline_id

    def test_a_report_that_could_not_be_queued_is_queued_next_time(self, stage: Stage) -> None:
        stage.execute_sql(
            "CREATE TRIGGER no_report BEFORE INSERT ON runs WHEN NEW.task = 'report' "
            "BEGIN SELECT RAISE(ABORT, 'killed'); END"
        )
        run_id, baseline_id = launch_pair(stage)
        train_run(stage, baseline_id, 0.3)
        train_run(stage, run_id, 0.33)
        assert stage.run(run_id)["report_run_id"] is None
        stage.execute_sql("DROP TRIGGER no_report")

        stage.run_loops()

        assert stage.run(run_id)["report_run_id"] is not None
        assert find_changed(stage) == {}

    def test_a_report_that_fsck_removed_is_made_anew(self, stage: Stage) -> None:
        run_id, baseline_id = launch_pair(stage)
        train_run(stage, baseline_id, 0.3)
        train_run(stage, run_id, 0.33)
        first = stage.run(run_id)["report_run_id"]
        with stage.ctx.store.transaction() as uow:
            run = uow.runs.get_for_update(run_id)
            uow.runs.save(replace(run, lineage=replace(run.lineage, report_run_id=None)))

        stage.run_loops()

        assert stage.run(run_id)["report_run_id"] not in (None, first)

    def test_of_two_services_one_compares(self, stage: Stage) -> None:
        run_id, baseline_id = launch_pair(stage)
        train_run(stage, baseline_id, 0.3)
        other = replace(stage.ctx, owner="other")
        compare_baselines(other)

        train_run(stage, run_id, 0.33)

        assert stage.run(run_id)["report_run_id"] is not None
        assert len(list_run_ids(stage)) == 3


class Dropping(SimulatedTracker):
    """A tracker that accepts metrics and becomes unreachable before the tags."""

    def set_tags(self, mlflow_run_id: str, tags: Mapping[str, str]) -> None:
        raise TrackerUnreachable("It has just gone.")


def make_reported_run(stage: Stage) -> tuple[str, str]:
    """Train a pair; returns the ids of the distilled run and of the submitted report."""
    run_id, baseline_id = launch_pair(stage)
    train_run(stage, run_id, 0.33)
    train_run(stage, baseline_id, 0.3)
    return run_id, stage.run(run_id)["report_run_id"]


def make_compared_pair(stage: Stage) -> tuple[str, str]:
    run_id, baseline_id = launch_pair(stage)
    train_run(stage, baseline_id, 0.307)
    train_run(stage, run_id, 0.33, teacher=0.4, has_mlflow_run=True)
    make_report(stage, stage.run(run_id)["report_run_id"], make_comparison(run_id, baseline_id))
    return run_id, baseline_id


def find_changed(stage: Stage) -> dict[str, int]:
    with stage.ctx.store.transaction() as uow:
        return uow.baselines.find_changed()
