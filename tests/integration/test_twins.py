"""Did it help? Baselines that are booked, reused or refused, and what a pair of runs comes to."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.protocol.names import RunFile
from configs.protocol.report import ReportInputs
from configs.spec.distillation import NoDistillation
from configs.spec.run import RunSpec
from configs.spec.search import Uniform
from configs.spec.sweep import SweepSpec
from service.adapters.simulated import SimulatedTracker
from service.domain.access import LOCAL_CALLER
from service.domain.errors import TrackerUnreachable
from service.domain.sweeps import Sweep, SweepState
from service.loops.comparisons import compare_baselines
from service.usecases.reports import enqueue_comparison_report
from service.usecases.runs.launch import launch_run
from service.usecases.runs.plan import LaunchRun
from service.usecases.sweeps.baselines import enqueue_baselines, find_missing_noise_seeds
from tests.conftest import Stage
from tests.factories import a_bckd_spec, a_spec
from tests.integration.test_replicas import replica
from tests.integration.test_run_life import step_quietly
from tests.pairs import a_comparison, a_pair, end, kinds, make_report, start, train


class TestBooking:
    def test_a_taught_run_is_booked_with_its_student_alone(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage, seed=3, tags={"team": "a"})

        run, twin = stage.run(run_id), stage.run(twin_id)
        expected = run["spec"] | {"teacher": None}
        expected["distillation"] = NoDistillation().model_dump(mode="json")
        assert twin["spec"] == expected
        assert (twin["name"], twin["preset"]) == (f"{run['name']}, student alone", None)
        assert (twin["project"], twin["priority"]) == (run["project"], run["priority"])
        assert twin["baseline"] is None
        why = stage.http.get(f"/v1/runs/{twin_id}/events").json()[0]["details"]
        assert run_id in why
        assert "without a teacher" in why
        assert kinds(stage, run_id) == ["launched", "baseline"]

    def test_a_run_without_a_teacher_has_none(self, stage: Stage) -> None:
        stage.add_dataset()

        run = stage.launch(spec=a_spec())

        assert run["baseline"] is None
        assert ids(stage) == [run["id"]]

    def test_another_way_to_teach_the_same_student_reuses_its_baseline(self, stage: Stage) -> None:
        _, twin_id = a_pair(stage)

        again = stage.launch(spec=a_bckd_spec(distillation={"method": "pkd"}, tags={"k": "v"}))

        assert again["baseline"] == twin_id
        assert len(ids(stage)) == 3

    def test_a_baseline_that_a_person_launched_is_reused(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        alone = stage.launch(spec=a_spec(resources={"num_cpus": 2}))["id"]

        assert stage.launch(spec=a_bckd_spec())["baseline"] == alone

    def test_another_seed_or_schedule_has_a_baseline_of_its_own(self, stage: Stage) -> None:
        _, twin_id = a_pair(stage)

        others = [a_bckd_spec(seed=1), a_bckd_spec(schedule={"epochs": 3})]

        twins = {stage.launch(spec=spec)["baseline"] for spec in others}
        assert len(twins | {twin_id}) == 3

    def test_one_that_succeeded_is_preferred_to_an_older_one(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        stage.launch(spec=a_spec())
        newer = stage.launch(spec=a_spec())["id"]
        train(stage, newer, 0.3)

        assert stage.launch(spec=a_bckd_spec())["baseline"] == newer

    def test_one_that_failed_or_is_cancelled_is_not_reused(self, stage: Stage) -> None:
        _, twin_id = a_pair(stage)
        stage.http.post(f"/v1/runs/{twin_id}:cancel")

        again = stage.launch(spec=a_bckd_spec())

        assert again["baseline"] not in (None, twin_id)

    def test_a_dataset_that_was_replaced_makes_another_run(self, stage: Stage) -> None:
        _, twin_id = a_pair(stage)
        stage.forget(
            'UPDATE datasets SET manifest = replace(manifest, \'"digest":"0\', \'"digest":"1\')'
        )

        assert stage.launch(spec=a_bckd_spec())["baseline"] != twin_id

    def test_a_baseline_can_be_refused(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()

        run = stage.launch(spec=a_bckd_spec(), baseline="off")

        assert run["baseline"] is None
        assert ids(stage) == [run["id"]]

    def test_projects_do_not_share_baselines(self, stage: Stage) -> None:
        _, twin_id = a_pair(stage)

        theirs = stage.launch(spec=a_bckd_spec(), project="theirs")

        assert theirs["baseline"] != twin_id
        assert stage.run(theirs["baseline"])["project"] == "theirs"

    def test_the_same_idempotency_key_books_nothing_twice(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        headers = {"Idempotency-Key": "once"}

        first, again = (
            stage.http.post("/v1/runs", json={"spec": a_bckd_spec()}, headers=headers).json()
            for _ in range(2)
        )

        assert first == again
        assert len(ids(stage)) == 2

    def test_launches_at_the_same_moment_book_one_baseline(self, any_stage: Stage) -> None:
        any_stage.add_dataset()
        any_stage.add_teacher()
        specs = [a_bckd_spec(), a_bckd_spec(distillation={"method": "pkd"})]
        with replica(any_stage, "a") as a, replica(any_stage, "b") as b:
            found: list[str | None] = []

            def launch(ctx: Any, spec: dict[str, Any]) -> None:
                run, _ = launch_run(LaunchRun(spec=spec), key=None, caller=LOCAL_CALLER, ctx=ctx)
                found.append(run.baseline_run_id)

            threads = [
                threading.Thread(target=launch, args=(one.ctx, spec))
                for one, spec in zip((a, b), specs, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert len(found) == 2
        assert len(set(found)) == 1
        assert len(ids(any_stage)) == 3


class TestPlanning:
    def test_a_plan_says_that_a_baseline_would_be_booked_and_books_none(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()

        planned = plan(stage, spec=a_bckd_spec())

        assert planned["baseline"] == {"run": None, "state": None, "best_map": None}
        assert ids(stage) == []

    def test_a_plan_names_the_baseline_that_would_be_reused(self, stage: Stage) -> None:
        _, twin_id = a_pair(stage)
        train(stage, twin_id, 0.3)

        planned = plan(stage, spec=a_bckd_spec())

        assert planned["baseline"] == {"run": twin_id, "state": "succeeded", "best_map": 0.3}
        assert plan(stage, spec=a_bckd_spec(), baseline="off")["baseline"] is None
        assert plan(stage, spec=a_bckd_spec(), project="theirs")["baseline"]["run"] is None

    def test_a_teacher_that_is_no_better_than_the_student_is_told_of(
        self, any_stage: Stage
    ) -> None:
        run_id, twin_id = a_pair(any_stage)
        train(any_stage, run_id, 0.32, teacher=0.31)
        train(any_stage, twin_id, 0.33)

        warnings = plan(any_stage, spec=a_bckd_spec(distillation={"method": "pkd"}))["findings"]

        assert [(one["severity"], one["code"]) for one in warnings] == [
            ("warning", "teacher_not_better")
        ]
        for word in ("31.0", run_id, "33.0", twin_id):
            assert word in warnings[0]["message"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"teacher": {"name": "other"}},
            {"data": {"dataset": {"name": "pets"}, "image_size": [128, 128], "batch_size": 4}},
            {"seed": 1},
        ],
        ids=["another teacher", "larger images", "a student that nobody measured"],
    )
    def test_nothing_is_said_of_what_was_not_measured(
        self, stage: Stage, changes: dict[str, Any]
    ) -> None:
        run_id, twin_id = a_pair(stage)
        stage.add_teacher("other")
        train(stage, run_id, 0.32, teacher=0.31)
        train(stage, twin_id, 0.33)

        assert plan(stage, spec=a_bckd_spec(**changes))["findings"] == []

    def test_a_teacher_that_leads_is_none_of_our_business(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage)
        train(stage, run_id, 0.32, teacher=0.4)
        train(stage, twin_id, 0.33)

        assert plan(stage, spec=a_bckd_spec())["findings"] == []


class TestComparing:
    def test_when_both_have_succeeded_one_report_is_made_and_its_verdict_shown(
        self, any_stage: Stage
    ) -> None:
        run_id, twin_id = a_pair(any_stage)
        train(any_stage, twin_id, 0.307)
        assert any_stage.run(run_id)["report"] is None
        train(any_stage, run_id, 0.33, teacher=0.4, tracked=True)

        report_id = any_stage.run(run_id)["report"]
        for _ in range(3):
            any_stage.turn()
        assert any_stage.run(run_id)["report"] == report_id
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
                "floor; closes 41 % of the teacher's lead."
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
        report_id = stage.run(run_id)["report"]
        start(stage, report_id)

        command = stage.cluster.job_requests[f"{report_id}-a1"].command
        written = json.loads((stage.home / "runs" / report_id / RunFile.SPEC).read_text())

        dossier = ReportInputs.model_validate(written["dossier"])
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
        assert stage.run(report_id)["spec"]["dossier"] is None

    def test_a_baseline_that_fails_is_told_once_and_there_is_no_verdict(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage)
        train(stage, run_id, 0.33)
        start(stage, twin_id)
        end(stage, twin_id, "failed", exit_code=1)

        for _ in range(3):
            stage.turn()

        run = stage.run(run_id)
        assert (run["report"], run["comparison"], run["is_baseline_lost"]) == (None, None, True)
        assert kinds(stage, run_id).count("baseline_lost") == 1

    def test_a_baseline_that_is_retried_counts_again(self, any_stage: Stage) -> None:
        run_id, twin_id = a_pair(any_stage)
        any_stage.http.post(f"/v1/runs/{twin_id}:cancel")
        train(any_stage, run_id, 0.33)

        any_stage.http.post(f"/v1/runs/{twin_id}:retry")
        any_stage.turn()
        train(any_stage, twin_id, 0.3)

        assert kinds(any_stage, run_id)[-3:] == ["baseline_lost", "baseline_recovered", "report"]
        assert any_stage.run(run_id)["is_baseline_lost"] is False

    def test_what_was_refused_a_baseline_is_not_compared(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        run_id = stage.launch(spec=a_bckd_spec(), baseline="off")["id"]

        train(stage, run_id, 0.33)

        assert stage.run(run_id)["report"] is None

    def test_a_comparison_with_a_run_of_another_project_is_not_kept(self, stage: Stage) -> None:
        run_id, report_id = a_reported_run(stage)
        stage.add_dataset()
        theirs = stage.launch(spec=a_spec(), project="theirs")["id"]

        make_report(stage, report_id, a_comparison(theirs, run_id))

        assert stage.run(theirs)["comparison"] is None

    def test_a_report_without_a_verdict_is_told(self, stage: Stage) -> None:
        run_id, report_id = a_reported_run(stage)

        make_report(stage, report_id)

        assert kinds(stage, run_id)[-2:] == ["report", "no_verdict"]
        assert stage.run(run_id)["comparison"] is None

    def test_a_report_that_cannot_be_read_is_told_once(self, stage: Stage) -> None:
        run_id, report_id = a_reported_run(stage)
        start(stage, report_id)
        end(stage, report_id, "succeeded", exit_code=0)

        stage.turn()

        assert stage.run(run_id)["comparison"] is None
        assert kinds(stage, report_id) == ["launched", "refused"]


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
        report_id = stage.run(run_id)["report"]
        start(stage, report_id)
        write = a_comparison(run_id, twin_id)
        stage.tracker.is_reachable = False
        with pytest.raises(Exception, match="switched off"):
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
        make_report(stage, stage.run(run_id)["report"], a_comparison(run_id, twin_id))

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


class TestNoise:
    def test_it_is_unknown_until_two_seeds_have_succeeded_and_grows_with_each(
        self, any_stage: Stage
    ) -> None:
        any_stage.add_dataset()
        runs = [any_stage.launch(spec=a_spec(seed=seed))["id"] for seed in range(3)]
        freedoms = []

        for run_id, score in zip(runs, (0.30, 0.32, 0.31), strict=True):
            train(any_stage, run_id, score)
            noise = any_stage.http.get(f"/v1/runs/{run_id}/noise").json()
            freedoms.append(noise["noise"] and noise["noise"]["freedom"])

        assert freedoms == [None, 1, 2]
        assert noise["runs"] == runs
        assert plan(any_stage, spec=a_spec(seed=9))["noise"] == noise["noise"]

    def test_taught_runs_scatter_as_their_baselines_do(self, stage: Stage) -> None:
        stage.add_teacher()
        stage.add_dataset()
        for seed, score in enumerate((0.30, 0.32)):
            run_id = stage.launch(spec=a_bckd_spec(seed=seed), baseline="off")["id"]
            train(stage, run_id, score)

        noise = plan(stage, spec=a_spec())["noise"]

        assert (noise["runs"], noise["freedom"]) == (2, 1)

    def test_a_seed_that_was_trained_twice_counts_once(self, stage: Stage) -> None:
        stage.add_dataset()
        for _ in range(2):
            train(stage, stage.launch(spec=a_spec())["id"], 0.3)

        assert plan(stage, spec=a_spec())["noise"] is None

    def test_the_runs_of_other_projects_do_not_count(self, stage: Stage) -> None:
        stage.add_dataset()
        for seed, score in enumerate((0.30, 0.32)):
            run_id = stage.launch(spec=a_spec(seed=seed), project="theirs")["id"]
            train(stage, run_id, score)

        assert plan(stage, spec=a_spec())["noise"] is None
        assert plan(stage, spec=a_spec(), project="theirs")["noise"] is not None

    def test_a_sweep_learns_which_seeds_are_missing_and_books_them_once(self, stage: Stage) -> None:
        _, twin_id = a_pair(stage, seed=1)
        base = parse_spec(a_bckd_spec())
        sweep = a_sweep(stage, base)
        seeds = find_missing_noise_seeds(base, 3, project="default", ctx=stage.ctx)

        booked = enqueue_baselines(base, [*seeds, 1], sweep=sweep, ctx=stage.ctx)
        again = enqueue_baselines(base, [*seeds, 1], sweep=sweep, ctx=stage.ctx)

        assert seeds == [0, 2]
        assert booked == again
        assert booked[1] == twin_id
        assert find_missing_noise_seeds(base, 3, project="default", ctx=stage.ctx) == []
        made = stage.run(booked[2])
        assert made["spec"]["seed"] == 2
        assert made["spec"]["teacher"] is None


class TestKilledInBetween:
    def test_a_report_is_booked_with_its_note_or_not_at_all(self, stage: Stage) -> None:
        run_id, twin_id = a_pair(stage)
        train(stage, run_id, 0.33)
        train(stage, twin_id, 0.3)
        first = stage.run(run_id)["report"]

        enqueue_comparison_report(run_id, ctx=stage.ctx)

        assert stage.run(run_id)["report"] == first
        assert len(ids(stage)) == 3

    def test_what_was_shown_but_not_noted_is_shown_the_same_again(self, stage: Stage) -> None:
        a_compared_pair(stage)
        before = json.dumps(stage.tracker.metrics, sort_keys=True)
        stage.forget("UPDATE comparisons SET is_shown = 0")
        stage.clock.advance(100)

        stage.turn()

        assert json.dumps(stage.tracker.metrics, sort_keys=True) == before
        with stage.ctx.store.transaction() as uow:
            assert uow.comparisons.not_synced() == []

    def test_mlflow_that_goes_away_between_number_and_tag_has_both_once(self, stage: Stage) -> None:
        run_id, _ = a_compared_pair(stage)
        stage.forget("UPDATE comparisons SET is_shown = 0")
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
            "CREATE TRIGGER no_twin BEFORE INSERT ON runs WHEN NEW.name LIKE '%student alone' "
            "BEGIN SELECT RAISE(ABORT, 'killed'); END"
        )

        refused = stage.http.post("/v1/runs", json={"spec": a_bckd_spec()})

        assert refused.status_code >= 500
        assert ids(stage) == []

    def test_a_report_that_was_kept_is_not_kept_again(self, stage: Stage) -> None:
        run_id, twin_id = a_compared_pair(stage)
        report_id = stage.run(run_id)["report"]
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

        assert stage.run(run_id)["report"] is not None
        assert len(ids(stage)) == 3


class Dropping(SimulatedTracker):
    """Takes numbers, and is gone before the tags."""

    def set_tag(self, mlflow_run_id: str, key: str, value: str) -> None:
        raise TrackerUnreachable("It has just gone.")


def plan(stage: Stage, **body: Any) -> dict[str, Any]:
    response = stage.http.post("/v1/runs:plan", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def ids(stage: Stage) -> list[str]:
    return [run["id"] for run in stage.http.get("/v1/runs").json()["items"]]


def a_reported_run(stage: Stage) -> tuple[str, str]:
    """A pair that has succeeded: the taught one, and the report that is due."""
    run_id, twin_id = a_pair(stage)
    train(stage, run_id, 0.33)
    train(stage, twin_id, 0.3)
    return run_id, stage.run(run_id)["report"]


def a_compared_pair(stage: Stage) -> tuple[str, str]:
    run_id, twin_id = a_pair(stage)
    train(stage, twin_id, 0.307)
    train(stage, run_id, 0.33, teacher=0.4, tracked=True)
    make_report(stage, stage.run(run_id)["report"], a_comparison(run_id, twin_id))
    return run_id, twin_id


def a_sweep(stage: Stage, base: RunSpec) -> Sweep:
    """One that is only a name here: what it searches is none of the twins' business."""
    now = stage.clock.now()
    weights = {"distillation.loc_weight": Uniform(low=0.0, high=4.0, when={})}
    return Sweep(
        id="s" + "0" * 12,
        name="weights",
        preset=None,
        spec=SweepSpec(base=base, space=weights, tags={}),
        state=SweepState.SEARCHING,
        created_at=now,
        updated_at=now,
        created_by="me",
    )
