"""Baselines: queued, reused or turned off; what plans say about them; the noise between seeds."""

import threading
from typing import Any

import pytest

from configs.catalog import parse_spec
from configs.spec.distillation import NoDistillation
from configs.spec.run import RunSpec
from configs.spec.search import Uniform
from configs.spec.sweep import SweepSpec
from service.domain.access import LOCAL_CALLER
from service.domain.sweeps import Sweep, SweepState
from service.usecases.runs.launch import launch_run
from service.usecases.runs.plan import LaunchRun
from service.usecases.sweeps.baselines import enqueue_baselines, find_missing_noise_seeds
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.baseline_pairs import launch_pair, list_event_kinds, train_run
from tests.support.service.replicas import open_replica
from tests.support.service.runs import list_run_ids
from tests.support.service.stage import SLOW_ON_POSTGRESQL, Stage


class TestLaunch:
    def test_a_distilled_run_is_launched_with_its_baseline(self, stage: Stage) -> None:
        run_id, baseline_id = launch_pair(stage, seed=3, tags={"team": "a"})

        run, baseline = stage.run(run_id), stage.run(baseline_id)
        expected = run["spec"] | {"teacher": None}
        expected["distillation"] = NoDistillation().model_dump(mode="json")
        assert baseline["spec"] == expected
        assert (baseline["name"], baseline["preset"]) == (f"{run['name']}, baseline", None)
        assert (baseline["project"], baseline["priority"]) == (run["project"], run["priority"])
        assert baseline["baseline_run_id"] is None
        details = stage.http.get(f"/v1/runs/{baseline_id}/events").json()["items"][0]["details"]
        assert run_id in details
        assert "without a teacher" in details
        assert list_event_kinds(stage, run_id) == ["launched", "baseline_assigned"]

    def test_a_run_without_a_teacher_has_none(self, stage: Stage) -> None:
        stage.add_dataset()

        run = stage.launch(spec=make_spec())

        assert run["baseline_run_id"] is None
        assert list_run_ids(stage) == [run["id"]]

    def test_another_method_for_the_same_student_reuses_its_baseline(self, stage: Stage) -> None:
        _, baseline_id = launch_pair(stage)

        repeated = stage.launch(
            spec=make_bckd_spec(distillation={"method": "pkd"}, tags={"k": "v"})
        )

        assert repeated["baseline_run_id"] == baseline_id
        assert len(list_run_ids(stage)) == 3

    def test_a_baseline_that_a_person_launched_is_reused(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        launched_id = stage.launch(spec=make_spec(resources={"num_cpus": 2}))["id"]

        assert stage.launch(spec=make_bckd_spec())["baseline_run_id"] == launched_id

    def test_another_seed_or_schedule_has_a_baseline_of_its_own(self, stage: Stage) -> None:
        _, baseline_id = launch_pair(stage)

        other_specs = [make_bckd_spec(seed=1), make_bckd_spec(schedule={"epochs": 3})]

        baseline_ids = {stage.launch(spec=spec)["baseline_run_id"] for spec in other_specs}
        assert len(baseline_ids | {baseline_id}) == 3

    def test_one_that_succeeded_is_preferred_to_an_older_one(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        stage.launch(spec=make_spec())
        newer = stage.launch(spec=make_spec())["id"]
        train_run(stage, newer, 0.3)

        assert stage.launch(spec=make_bckd_spec())["baseline_run_id"] == newer

    def test_one_that_failed_or_is_cancelled_is_not_reused(self, stage: Stage) -> None:
        _, baseline_id = launch_pair(stage)
        stage.http.post(f"/v1/runs/{baseline_id}:cancel")

        repeated = stage.launch(spec=make_bckd_spec())

        assert repeated["baseline_run_id"] not in (None, baseline_id)

    def test_a_dataset_that_was_replaced_makes_another_run(self, stage: Stage) -> None:
        _, baseline_id = launch_pair(stage)
        stage.execute_sql(
            'UPDATE datasets SET manifest = replace(manifest, \'"digest":"0\', \'"digest":"1\')'
        )

        assert stage.launch(spec=make_bckd_spec())["baseline_run_id"] != baseline_id

    def test_a_baseline_can_be_refused(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()

        run = stage.launch(spec=make_bckd_spec(), baseline="off")

        assert run["baseline_run_id"] is None
        assert list_run_ids(stage) == [run["id"]]

    def test_projects_do_not_share_baselines(self, stage: Stage) -> None:
        _, baseline_id = launch_pair(stage)

        other_run = stage.launch(spec=make_bckd_spec(), project="theirs")

        assert other_run["baseline_run_id"] != baseline_id
        assert stage.run(other_run["baseline_run_id"])["project"] == "theirs"

    def test_the_same_idempotency_key_launches_nothing_twice(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()
        headers = {"Idempotency-Key": "once"}

        first, repeated = (
            stage.http.post("/v1/runs", json={"spec": make_bckd_spec()}, headers=headers).json()
            for _ in range(2)
        )

        assert first == repeated | {"queue_position": None}  # not counted for a new run
        assert len(list_run_ids(stage)) == 2

    def test_concurrent_launches_queue_one_baseline(self, any_stage: Stage) -> None:
        any_stage.add_dataset()
        any_stage.add_teacher()
        specs = [make_bckd_spec(), make_bckd_spec(distillation={"method": "pkd"})]
        with open_replica(any_stage, "a") as replica_a, open_replica(any_stage, "b") as replica_b:
            baseline_ids: list[str | None] = []

            def launch(ctx: Any, spec: dict[str, Any]) -> None:
                run, _ = launch_run(LaunchRun(spec=spec), key=None, caller=LOCAL_CALLER, ctx=ctx)
                baseline_ids.append(run.lineage.baseline_run_id)

            threads = [
                threading.Thread(target=launch, args=(service.ctx, spec))
                for service, spec in zip((replica_a, replica_b), specs, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert len(baseline_ids) == 2
        assert len(set(baseline_ids)) == 1
        assert len(list_run_ids(any_stage)) == 3


class TestPlanning:
    def test_a_plan_announces_a_new_baseline_without_launching_it(self, stage: Stage) -> None:
        stage.add_dataset()
        stage.add_teacher()

        planned = plan(stage, spec=make_bckd_spec())

        assert planned["baseline"] == {"run_id": None, "state": None, "best_map": None}
        assert list_run_ids(stage) == []

    def test_a_plan_names_the_baseline_that_would_be_reused(self, stage: Stage) -> None:
        _, baseline_id = launch_pair(stage)
        train_run(stage, baseline_id, 0.3)

        planned = plan(stage, spec=make_bckd_spec())

        assert planned["baseline"] == {"run_id": baseline_id, "state": "succeeded", "best_map": 0.3}
        assert plan(stage, spec=make_bckd_spec(), baseline="off")["baseline"] is None
        assert plan(stage, spec=make_bckd_spec(), project="theirs")["baseline"]["run_id"] is None

    @SLOW_ON_POSTGRESQL
    def test_a_teacher_that_is_no_better_than_the_student_is_a_warning(
        self, any_stage: Stage
    ) -> None:
        run_id, baseline_id = launch_pair(any_stage)
        train_run(any_stage, run_id, 0.32, teacher=0.31)
        train_run(any_stage, baseline_id, 0.33)

        warnings = plan(any_stage, spec=make_bckd_spec(distillation={"method": "pkd"}))["findings"]

        assert [(finding["severity"], finding["code"]) for finding in warnings] == [
            ("warning", "teacher_not_better")
        ]
        for text in ("31.0", run_id, "33.0", baseline_id):
            assert text in warnings[0]["message"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"teacher": {"name": "other"}},
            {"data": {"dataset": {"name": "pets"}, "image_size": [128, 128], "batch_size": 4}},
            {"seed": 1},
        ],
        ids=["another teacher", "larger images", "an unmeasured student"],
    )
    def test_unmeasured_teachers_and_students_cause_no_warning(
        self, stage: Stage, changes: dict[str, Any]
    ) -> None:
        run_id, baseline_id = launch_pair(stage)
        stage.add_teacher("other")
        train_run(stage, run_id, 0.32, teacher=0.31)
        train_run(stage, baseline_id, 0.33)

        assert plan(stage, spec=make_bckd_spec(**changes))["findings"] == []

    def test_a_better_teacher_causes_no_warning(self, stage: Stage) -> None:
        run_id, baseline_id = launch_pair(stage)
        train_run(stage, run_id, 0.32, teacher=0.4)
        train_run(stage, baseline_id, 0.33)

        assert plan(stage, spec=make_bckd_spec())["findings"] == []


class TestNoise:
    @SLOW_ON_POSTGRESQL
    def test_it_is_unknown_until_two_seeds_have_succeeded_and_grows_with_each(
        self, any_stage: Stage
    ) -> None:
        any_stage.add_dataset()
        runs = [any_stage.launch(spec=make_spec(seed=seed))["id"] for seed in range(3)]
        freedoms = []

        for run_id, score in zip(runs, (0.30, 0.32, 0.31), strict=True):
            train_run(any_stage, run_id, score)
            noise = any_stage.http.get(f"/v1/runs/{run_id}/noise").json()
            freedoms.append(noise["noise"] and noise["noise"]["freedom"])

        assert freedoms == [None, 1, 2]
        assert noise["runs"] == runs
        assert plan(any_stage, spec=make_spec(seed=9))["noise"] == noise["noise"]

    def test_distilled_runs_count_like_their_baselines(self, stage: Stage) -> None:
        stage.add_teacher()
        stage.add_dataset()
        for seed, score in enumerate((0.30, 0.32)):
            run_id = stage.launch(spec=make_bckd_spec(seed=seed), baseline="off")["id"]
            train_run(stage, run_id, score)

        noise = plan(stage, spec=make_spec())["noise"]

        assert (noise["runs"], noise["freedom"]) == (2, 1)

    def test_a_seed_that_was_trained_twice_counts_once(self, stage: Stage) -> None:
        stage.add_dataset()
        for _ in range(2):
            train_run(stage, stage.launch(spec=make_spec())["id"], 0.3)

        assert plan(stage, spec=make_spec())["noise"] is None

    def test_the_runs_of_other_projects_do_not_count(self, stage: Stage) -> None:
        stage.add_dataset()
        for seed, score in enumerate((0.30, 0.32)):
            run_id = stage.launch(spec=make_spec(seed=seed), project="theirs")["id"]
            train_run(stage, run_id, score)

        assert plan(stage, spec=make_spec())["noise"] is None
        assert plan(stage, spec=make_spec(), project="theirs")["noise"] is not None

    def test_a_sweep_queues_missing_noise_baselines_once(self, stage: Stage) -> None:
        _, baseline_id = launch_pair(stage, seed=1)
        base = parse_spec(make_bckd_spec())
        sweep = insert_sweep(stage, base)
        seeds = find_missing_noise_seeds(base, 3, project="default", ctx=stage.ctx)

        queued = enqueue_baselines(base, [*seeds, 1], sweep=sweep, ctx=stage.ctx)
        repeated = enqueue_baselines(base, [*seeds, 1], sweep=sweep, ctx=stage.ctx)

        assert seeds == [0, 2]
        assert queued == repeated
        assert queued[1] == baseline_id
        assert find_missing_noise_seeds(base, 3, project="default", ctx=stage.ctx) == []
        new_baseline = stage.run(queued[2])
        assert new_baseline["spec"]["seed"] == 2
        assert new_baseline["spec"]["teacher"] is None


def plan(stage: Stage, **body: Any) -> dict[str, Any]:
    response = stage.http.post("/v1/runs:plan", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def insert_sweep(stage: Stage, base: RunSpec) -> Sweep:
    """Insert a sweep without trials: baselines depend only on its id and spec."""
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
