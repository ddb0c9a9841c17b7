"""Reports of runs with their baselines: made by the loop, shown, tracked, once after any crash."""

import json
from dataclasses import replace

import pytest

from configs.protocol.names import RunFile
from configs.protocol.report import ReportInputs
from service.adapters.simulated import SimulatedTracker
from service.domain.errors import TrackerUnreachable
from service.loops.comparisons import compare_baselines
from service.usecases.reports import enqueue_comparison_report
from tests.support.factories import a_bckd_spec, a_spec
from tests.support.service.baseline_pairs import (
    a_comparison,
    a_pair,
    end,
    kinds,
    make_report,
    start,
    train,
)
from tests.support.service.runs import run_ids, step_quietly
from tests.support.service.stage import Stage


class TestComparing:
    def test_when_both_have_succeeded_one_report_is_made_and_its_verdict_shown(
        self, any_stage: Stage
    ) -> None:
        run_id, twin_id = a_pair(any_stage)
        train(any_stage, twin_id, 0.307)
        assert any_stage.run(run_id)["report_run_id"] is None
        train(any_stage, run_id, 0.33, teacher=0.4, tracked=True)

        report_id = any_stage.run(run_id)["report_run_id"]
        for _ in range(3):
            any_stage.turn()
        assert any_stage.run(run_id)["report_run_id"] == report_id
        make_report(any_stage, report_id, a_comparison(run_id, twin_id))

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
        listed = any_stage.http.get("/v1/runs").json()["items"]
        assert [run["id"] for run in listed if run["comparison"]] == [run_id]
        assert len(listed) == 3

    def test_the_report_is_told_everything(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage)
        train(stage, run_id, 0.33, teacher=0.4)
        train(stage, twin_id, 0.3)
        report_id = stage.run(run_id)["report_run_id"]
        start(stage, report_id)

        command = stage.cluster.job_requests[f"{report_id}-a1"].command
        folder = stage.home / "runs" / report_id

        dossier = ReportInputs.model_validate_json((folder / RunFile.REPORT_INPUTS).read_text())
        taught, alone = dossier.runs
        assert command[:2] == ("tandem-worker", "report")
        assert (taught.id, taught.role, taught.baseline) == (run_id, "distilled", twin_id)
        assert (alone.id, alone.role, alone.baseline) == (twin_id, "baseline", None)
        assert (taught.best_map, alone.best_map) == (0.33, 0.3)
        assert taught.teacher["bbox_mAP"] == 0.4
        assert alone.teacher == {}
        assert [point.epoch for point in taught.curve] == [1.0, 2.0]
        assert taught.curve[1].values["val/bbox_mAP"] == 0.33
        assert taught.folder == str(stage.home / "runs" / run_id)
        assert dossier.dataset.root == str(stage.home / "datasets" / "pets")
        written = json.loads((folder / RunFile.SPEC).read_text())
        assert written == stage.run(report_id)["spec"]
        assert "inputs" not in written

    def test_a_baseline_that_fails_is_told_once_and_there_is_no_verdict(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage)
        train(stage, run_id, 0.33)
        start(stage, twin_id)
        end(stage, twin_id, "failed", exit_code=1)

        for _ in range(3):
            stage.turn()

        run = stage.run(run_id)
        assert (run["report_run_id"], run["comparison"], run["is_baseline_lost"]) == (
            None,
            None,
            True,
        )
        assert kinds(stage, run_id).count("baseline_lost") == 1

    def test_a_baseline_that_is_retried_counts_again(self, any_stage: Stage) -> None:
        run_id, twin_id = a_pair(any_stage)
        any_stage.http.post(f"/v1/runs/{twin_id}:cancel")
        train(any_stage, run_id, 0.33)

        any_stage.http.post(f"/v1/runs/{twin_id}:retry")
        any_stage.turn()
        train(any_stage, twin_id, 0.3)

        assert kinds(any_stage, run_id)[-3:] == [
            "baseline_lost",
            "baseline_recovered",
            "report_requested",
        ]
        assert any_stage.run(run_id)["is_baseline_lost"] is False

    def test_what_was_refused_a_baseline_is_not_compared(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        run_id = stage.launch(spec=a_bckd_spec(), baseline="off")["id"]

        train(stage, run_id, 0.33)

        assert stage.run(run_id)["report_run_id"] is None

    def test_a_comparison_with_a_run_of_another_project_is_not_kept(self, stage: Stage) -> None:
        run_id, report_id = a_reported_run(stage)
        stage.add_dataset()
        theirs = stage.launch(spec=a_spec(), project="theirs")["id"]

        make_report(stage, report_id, a_comparison(theirs, run_id))

        assert stage.run(theirs)["comparison"] is None

    def test_a_report_without_a_verdict_is_told(self, stage: Stage) -> None:
        run_id, report_id = a_reported_run(stage)

        make_report(stage, report_id)

        assert kinds(stage, run_id)[-2:] == ["report_requested", "no_verdict"]
        assert stage.run(run_id)["comparison"] is None

    def test_a_report_that_cannot_be_read_is_told_once(self, stage: Stage) -> None:
        run_id, report_id = a_reported_run(stage)
        start(stage, report_id)
        end(stage, report_id, "succeeded", exit_code=0)

        stage.turn()

        assert stage.run(run_id)["comparison"] is None
        assert kinds(stage, report_id) == ["launched", "report_rejected"]


class TestShowing:
    def test_mlflow_has_the_gain_and_the_verdict(self, stage: Stage) -> None:
        run_id, twin_id = a_compared_pair(stage)

        assert stage.tracker.metrics[f"m-{run_id}"] == {
            "gain/bbox_mAP": 0.023,
            "gain/bbox_mAP_s": -0.01,
        }
        assert stage.tracker.tags[f"m-{run_id}"] == {
            "tandem.verdict": "helps",
            "tandem.seed_spread": "noise_floor",
            "tandem.conclusion": stage.run(run_id)["comparison"]["conclusion"],
            "tandem.baseline_run_id": twin_id,
            "tandem.gain_low": "0.011",
            "tandem.gain_high": "0.035",
        }

    def test_an_outage_of_mlflow_is_caught_up(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage)
        train(stage, twin_id, 0.3)
        train(stage, run_id, 0.33, tracked=True)
        report_id = stage.run(run_id)["report_run_id"]
        start(stage, report_id)
        write = a_comparison(run_id, twin_id)
        stage.tracker.is_reachable = False
        with pytest.raises(Exception, match="unreachable"):
            make_report(stage, report_id, write)
        step_quietly(stage, "compare")
        assert stage.run(run_id)["comparison"]["verdict"] == "helps"
        assert stage.tracker.metrics == {}

        stage.tracker.is_reachable = True
        step_quietly(stage, "compare")
        stage.tracker.metrics.clear()
        step_quietly(stage, "compare")

        assert stage.tracker.metrics == {}, "it was told again"
        assert stage.tracker.tags[f"m-{run_id}"]["tandem.verdict"] == "helps"

    def test_a_run_that_was_deleted_in_mlflow_is_not_told_for_ever(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage)
        train(stage, twin_id, 0.3)
        train(stage, run_id, 0.33, tracked=True)
        stage.tracker.deleted.add(f"m-{run_id}")
        make_report(stage, stage.run(run_id)["report_run_id"], a_comparison(run_id, twin_id))

        with stage.ctx.store.transaction() as uow:
            assert uow.comparisons.not_synced() == []

    def test_a_newer_report_is_shown_again(self, stage: Stage) -> None:
        run_id, twin_id = a_compared_pair(stage)
        stage.clock.advance(60)
        again = stage.http.post(f"/v1/runs/{run_id}:report").json()["id"]

        make_report(stage, again, a_comparison(run_id, twin_id, verdict="cannot_tell"))

        assert stage.run(run_id)["comparison"]["verdict"] == "cannot_tell"
        assert stage.tracker.tags[f"m-{run_id}"]["tandem.verdict"] == "cannot_tell"


class TestServing:
    @pytest.mark.parametrize(
        ("form", "kind", "beginning"),
        [
            ("html", "text/html", "<h1>"),
            ("md", "text/markdown", "# Did"),
            ("json", "application/json", "{"),
        ],
    )
    def test_a_report_is_served_in_each_form(
        self, stage: Stage, form: str, kind: str, beginning: str
    ) -> None:
        run_id, _ = a_compared_pair(stage)

        answer = stage.http.get(f"/v1/runs/{run_id}/report", params={"format": form})

        assert answer.headers["content-type"].startswith(kind)
        assert answer.text.startswith(beginning)
        policy = answer.headers["content-security-policy"]
        assert "script-src" not in policy
        assert "style-src 'unsafe-inline'" in policy

    def test_without_one_it_is_said_what_to_do(self, stage: Stage) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=a_spec())["id"]

        waiting = stage.http.get(f"/v1/runs/{run_id}/report")
        train(stage, run_id, 0.3)
        asked = stage.http.get(f"/v1/runs/{run_id}/report")

        assert (waiting.status_code, asked.status_code) == (404, 404)
        assert waiting.json()["code"] == "report_not_found"
        assert f"POST /v1/runs/{run_id}:report" in asked.json()["detail"]

    def test_one_is_made_of_any_run_that_succeeded_and_again_when_asked_again(
        self, stage: Stage
    ) -> None:
        stage.add_dataset()
        run_id = stage.launch(spec=a_spec())["id"]
        too_early = stage.http.post(f"/v1/runs/{run_id}:report")
        train(stage, run_id, 0.3)

        first = stage.http.post(f"/v1/runs/{run_id}:report")
        meanwhile = stage.http.post(f"/v1/runs/{run_id}:report")
        make_report(stage, first.json()["id"])
        again = stage.http.post(f"/v1/runs/{run_id}:report")

        assert too_early.status_code == 422
        assert (first.status_code, meanwhile.status_code, again.status_code) == (201, 200, 201)
        assert meanwhile.json()["id"] == first.json()["id"] != again.json()["id"]

    def test_one_that_failed_says_so_and_can_be_retried(self, stage: Stage) -> None:
        run_id, report_id = a_reported_run(stage)
        start(stage, report_id)
        end(stage, report_id, "failed", exit_code=1)

        answer = stage.http.get(f"/v1/runs/{run_id}/report")

        assert answer.status_code == 404
        assert f"tandem retry {report_id}" in answer.json()["detail"]


class TestKilledInBetween:
    def test_a_report_is_booked_with_its_note_or_not_at_all(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage)
        train(stage, run_id, 0.33)
        train(stage, twin_id, 0.3)
        first = stage.run(run_id)["report_run_id"]

        enqueue_comparison_report(run_id, ctx=stage.ctx)

        assert stage.run(run_id)["report_run_id"] == first
        assert len(run_ids(stage)) == 3

    def test_what_was_shown_but_not_noted_is_shown_the_same_again(self, stage: Stage) -> None:
        a_compared_pair(stage)
        before = json.dumps(stage.tracker.metrics, sort_keys=True)
        stage.forget("UPDATE comparisons SET mlflow_synced = 0")
        stage.clock.advance(100)

        stage.turn()

        assert json.dumps(stage.tracker.metrics, sort_keys=True) == before
        with stage.ctx.store.transaction() as uow:
            assert uow.comparisons.not_synced() == []

    def test_mlflow_that_goes_away_between_number_and_tag_has_both_once(self, stage: Stage) -> None:
        run_id, _ = a_compared_pair(stage)
        stage.forget("UPDATE comparisons SET mlflow_synced = 0")
        stage.tracker.tags.clear()
        with pytest.raises(TrackerUnreachable):
            compare_baselines(replace(stage.ctx, tracker=Dropping(runs=stage.tracker.runs)))

        stage.turn()

        assert stage.tracker.metrics[f"m-{run_id}"]["gain/bbox_mAP"] == 0.023
        assert stage.tracker.tags[f"m-{run_id}"]["tandem.verdict"] == "helps"
        with stage.ctx.store.transaction() as uow:
            assert uow.comparisons.not_synced() == []

    def test_a_twin_that_cannot_be_stored_takes_its_run_along(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        stage.forget(
            "CREATE TRIGGER no_twin BEFORE INSERT ON runs WHEN NEW.name LIKE '%, baseline' "
            "BEGIN SELECT RAISE(ABORT, 'killed'); END"
        )

        refused = stage.http.post("/v1/runs", json={"spec": a_bckd_spec()})

        assert refused.status_code >= 500
        assert run_ids(stage) == []

    def test_a_report_that_was_kept_is_not_kept_again(self, stage: Stage) -> None:
        run_id, twin_id = a_compared_pair(stage)
        report_id = stage.run(run_id)["report_run_id"]
        stage.forget("DELETE FROM comparisons")

        stage.turn()

        assert stage.run(run_id)["comparison"] is None
        assert report_id != twin_id

    def test_of_two_services_one_compares(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage)
        train(stage, twin_id, 0.3)
        other = replace(stage.ctx, owner="other")
        compare_baselines(other)

        train(stage, run_id, 0.33)

        assert stage.run(run_id)["report_run_id"] is not None
        assert len(run_ids(stage)) == 3


class Dropping(SimulatedTracker):
    """Takes numbers, and is gone before the tags."""

    def set_tag(self, mlflow_run_id: str, key: str, value: str) -> None:
        raise TrackerUnreachable("It has just gone.")


def a_reported_run(stage: Stage) -> tuple[str, str]:
    """A pair that has succeeded: the taught one, and the report that is due."""
    run_id, twin_id = a_pair(stage)
    train(stage, run_id, 0.33)
    train(stage, twin_id, 0.3)
    return run_id, stage.run(run_id)["report_run_id"]


def a_compared_pair(stage: Stage) -> tuple[str, str]:
    run_id, twin_id = a_pair(stage)
    train(stage, twin_id, 0.307)
    train(stage, run_id, 0.33, teacher=0.4, tracked=True)
    make_report(stage, stage.run(run_id)["report_run_id"], a_comparison(run_id, twin_id))
    return run_id, twin_id
