"""The lifecycle of a run over the API, with a simulated cluster."""

from configs.protocol.names import RunFile
from configs.protocol.records import (
    Tracked,
)
from service.domain.ports import Node
from tests.support.factories import CLASSES, make_bckd_spec, make_spec, write_checkpoint
from tests.support.service.runs import (
    deliver,
    make_delivery,
    make_metrics,
    make_outcome,
    make_progress,
    make_started,
    run_loop_step,
    submit_run,
)
from tests.support.service.stage import ON_BOTH_DATABASES, Stage


@ON_BOTH_DATABASES
def test_a_run_is_queued_submitted_runs_and_succeeds(stage: Stage) -> None:
    run_id = submit_run(stage)
    assert stage.run(run_id)["state"] == "starting"

    deliver(
        stage,
        run_id,
        [make_started(stage), make_progress(stage), make_metrics(stage, 10, loss=2.0)],
    )
    assert stage.run(run_id)["state"] == "running"
    deliver(
        stage, run_id, [make_metrics(stage, 20, mAP=0.4), make_outcome(stage, "succeeded")], first=3
    )
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
    stage.run_loops()

    run = stage.run(run_id)
    assert run["state"] == "succeeded"
    assert run["best_map"] == 0.4
    assert run["latest"] == {"train/loss": 2.0, "val/bbox_mAP": 0.4}
    events = stage.http.get(f"/v1/runs/{run_id}/events").json()["items"]
    moves = [event["to_state"] for event in events]
    assert moves == ["queued", "starting", "running", "succeeded"]


def test_the_job_is_a_plain_command_with_what_it_takes(stage: Stage) -> None:
    run_id = submit_run(stage, resources={"num_cpus": 2})

    order = stage.cluster.job_requests[f"{run_id}-a1"]

    assert order.command[:2] == ("tandem-worker", "train")
    assert order.num_cpus == 2
    assert order.metadata["run_id"] == run_id


def test_names_become_files_in_the_spec_that_the_worker_reads(stage: Stage) -> None:
    stage.add_teacher()

    run_id = submit_run(stage, make_bckd_spec())

    spec = (stage.home / "runs" / run_id / RunFile.SPEC).read_text()
    assert str(stage.home / "datasets" / "pets") in spec
    assert str(stage.home / "teachers" / "big.pth") in spec


@ON_BOTH_DATABASES
def test_a_delivery_that_comes_twice_counts_once(stage: Stage) -> None:
    run_id = submit_run(stage)
    records = [make_metrics(stage, 10, loss=2.0), make_metrics(stage, 20, loss=1.0)]

    deliver(stage, run_id, records)
    repeated = deliver(stage, run_id, records)

    assert repeated["next"] == 2
    points = stage.http.get(f"/v1/runs/{run_id}/metrics").json()["items"]
    assert [(point["step"], point["value"]) for point in points] == [(10, 2.0), (20, 1.0)]


def test_a_delivery_after_a_gap_is_asked_for_again(stage: Stage) -> None:
    run_id = submit_run(stage)

    receipt = deliver(stage, run_id, [make_metrics(stage, 20, loss=1.0)], first=5)

    assert receipt == {"next": 0, "stop": None, "next_due_s": 2.0}
    assert stage.http.get(f"/v1/runs/{run_id}/metrics").json()["items"] == []


@ON_BOTH_DATABASES
def test_records_of_an_attempt_that_is_over_are_refused(stage: Stage) -> None:
    run_id = submit_run(stage)
    stage.cluster.set_job_state(f"{run_id}-a1", "failed", exit_code=-9)
    stage.run_loops()
    stage.run_loops()

    response = stage.http.post(f"/v1/runs/{run_id}/attempts/1/deliveries", json=make_delivery([]))

    assert stage.run(run_id)["attempt"] == 2
    assert response.status_code == 409
    assert response.json()["code"] == "attempt_superseded"


def test_what_a_worker_could_not_deliver_is_read_from_its_spool(stage: Stage) -> None:
    run_id = submit_run(stage)
    records = [make_metrics(stage, 10, mAP=0.3), make_outcome(stage, "succeeded")]
    spool = stage.home / "runs" / run_id / RunFile.SPOOL
    spool.write_text(
        "".join(record.model_dump_json() + "\n" for record in records) + '{"kind": "met'
    )
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)

    stage.run_loops()

    assert stage.run(run_id)["state"] == "succeeded"
    assert stage.run(run_id)["best_map"] == 0.3


@ON_BOTH_DATABASES
def test_a_killed_worker_is_tried_again_until_the_budget_is_spent(stage: Stage) -> None:
    run_id = submit_run(stage)

    for attempt in (1, 2, 3):
        stage.cluster.set_job_state(f"{run_id}-a{attempt}", "failed", exit_code=-9)
        stage.run_loops()
        stage.clock.advance(10)
        stage.run_loops()

    run = stage.run(run_id)
    assert run["state"] == "failed"
    assert run["attempt"] == 3
    assert run["reason"] == "node_lost"
    assert run["advice"]


def test_a_job_that_was_never_submitted_is_submitted_again(stage: Stage) -> None:
    run_id = submit_run(stage)
    stage.cluster.forget_jobs()

    stage.run_loops()

    assert f"{run_id}-a1" in stage.cluster.jobs_by_id
    assert stage.run(run_id)["attempt"] == 1


def test_a_job_that_ray_forgot_is_lost_only_after_silence(stage: Stage) -> None:
    run_id = submit_run(stage)
    deliver(stage, run_id, [])
    stage.cluster.forget_jobs()

    stage.run_loops()
    assert stage.run(run_id)["state"] == "running"
    stage.clock.advance(100)
    stage.run_loops()
    stage.run_loops()

    assert stage.run(run_id)["state"] == "starting"
    assert stage.run(run_id)["attempt"] == 2


def test_a_silent_trainer_is_stopped_and_tried_again(stage: Stage) -> None:
    run_id = submit_run(stage)
    deliver(stage, run_id, [])
    stage.cluster.set_job_state(f"{run_id}-a1", "running")
    stage.clock.advance(301)

    stage.run_loops()
    stage.run_loops()

    events = stage.http.get(f"/v1/runs/{run_id}/events").json()["items"]
    assert f"{run_id}-a1" in stage.cluster.stopped
    assert "stalled" in [event["reason"] for event in events]


def test_nothing_happens_to_a_run_while_ray_does_not_answer(stage: Stage) -> None:
    run_id = submit_run(stage)
    deliver(stage, run_id, [])
    stage.cluster.is_reachable = False
    stage.clock.advance(10_000)

    for loop in ("reconcile", "tracker_sync"):
        run_loop_step(stage, loop)

    assert stage.run(run_id)["state"] == "running"


def test_cancel_while_queued_needs_no_cluster(stage: Stage) -> None:
    stage.add_dataset()
    run_id = stage.launch(spec=make_spec())["id"]

    response = stage.http.post(f"/v1/runs/{run_id}:cancel")

    assert response.json()["state"] == "cancelled"
    assert stage.cluster.job_requests == {}


@ON_BOTH_DATABASES
def test_cancel_while_running_tells_the_worker_first_and_ray_later(stage: Stage) -> None:
    run_id = submit_run(stage)
    deliver(stage, run_id, [])

    stage.http.post(f"/v1/runs/{run_id}:cancel")
    receipt = deliver(stage, run_id, [])
    stage.run_loops()
    assert stage.cluster.stopped == []
    stage.clock.advance(31)
    stage.run_loops()
    stage.run_loops()

    assert receipt["stop"]
    assert stage.cluster.stopped == [f"{run_id}-a1"]
    assert stage.run(run_id)["state"] == "cancelled"


def test_a_run_that_is_over_cannot_be_cancelled(stage: Stage) -> None:
    run_id = submit_run(stage)
    deliver(stage, run_id, [make_outcome(stage, "succeeded")])
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
    stage.run_loops()

    response = stage.http.post(f"/v1/runs/{run_id}:cancel")

    assert response.status_code == 409
    assert response.json()["code"] == "invalid_transition"


def test_a_run_waits_for_capacity_and_says_so_once(stage: Stage) -> None:
    first = submit_run(stage, resources={"num_cpus": 2})
    stage.cluster.cluster_nodes = (Node(2.0, 0.0, 0.0, 0.0),)
    second = stage.launch(spec=make_spec())["id"]

    for _ in range(3):
        stage.run_loops()

    events = stage.http.get(f"/v1/runs/{second}/events").json()["items"]
    assert stage.run(first)["state"] == "starting"
    assert "1 CPUs" in stage.run(second)["waiting_for"]
    assert [event["kind"] for event in events] == ["launched", "waiting"]


@ON_BOTH_DATABASES
def test_a_student_waits_for_its_teacher_and_gets_its_best_checkpoint(stage: Stage) -> None:
    teacher = submit_run(stage)
    student = stage.launch(spec=make_bckd_spec(teacher={"run": teacher}))["id"]
    stage.run_loops()
    assert teacher in stage.run(student)["waiting_for"]
    write_checkpoint(stage.home / "runs" / teacher / RunFile.BEST)

    deliver(stage, teacher, [make_outcome(stage, "succeeded")])
    stage.cluster.set_job_state(f"{teacher}-a1", "succeeded", exit_code=0)
    stage.run_loops()
    stage.run_loops()

    spec = (stage.home / "runs" / student / RunFile.SPEC).read_text()
    assert stage.run(student)["state"] == "starting"
    assert f"{teacher}/checkpoints/best.pth" in spec
    assert all(name in spec for name in CLASSES)


def test_a_student_whose_teacher_failed_fails_and_says_why(stage: Stage) -> None:
    teacher = submit_run(stage)
    student = stage.launch(spec=make_bckd_spec(teacher={"run": teacher}))["id"]
    stage.cluster.set_job_state(f"{teacher}-a1", "failed", exit_code=1)

    stage.run_loops()
    stage.run_loops()

    assert stage.run(student)["state"] == "failed"
    assert teacher in stage.run(student)["message"]


@ON_BOTH_DATABASES
def test_mlflow_is_told_the_end_as_soon_as_it_answers(stage: Stage) -> None:
    run_id = submit_run(stage)
    tracked = Tracked(at=stage.clock.now(), attempt=1, mlflow_run_id="m1")
    deliver(stage, run_id, [tracked, make_outcome(stage, "succeeded")])
    (stage.home / "runs" / run_id / "spool.mlflow.position").write_text("2")
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
    stage.tracker.is_reachable = False
    run_loop_step(stage, "reconcile")
    run_loop_step(stage, "tracker_sync")
    assert stage.run(run_id)["state"] == "succeeded"
    assert stage.tracker.statuses == {}

    stage.tracker.is_reachable = True
    stage.run_loops()

    assert stage.tracker.statuses == {"m1": "FINISHED"}


def test_records_that_never_reached_mlflow_are_shipped_before_the_end_is_told(stage: Stage) -> None:
    run_id = submit_run(stage)
    spool = stage.home / "runs" / run_id / RunFile.SPOOL
    spool.write_text(make_outcome(stage, "succeeded").model_dump_json() + "\n")
    stage.tracker.runs[run_id] = "m1"
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
    stage.run_loops()

    shipping = stage.cluster.job_requests[f"{run_id}-a1-flush1"]
    assert shipping.command[:2] == ("tandem-worker", "flush")
    assert stage.tracker.statuses == {}
    stage.cluster.set_job_state(f"{run_id}-a1-flush1", "succeeded", exit_code=0)
    stage.run_loops()

    assert stage.tracker.statuses == {"m1": "FINISHED"}


@ON_BOTH_DATABASES
def test_the_same_idempotency_key_gives_the_same_run(stage: Stage) -> None:
    stage.add_dataset()
    headers = {"Idempotency-Key": "once"}

    first = stage.http.post("/v1/runs", json={"spec": make_spec()}, headers=headers)
    repeated = stage.http.post("/v1/runs", json={"spec": make_spec()}, headers=headers)
    other = stage.http.post("/v1/runs", json={"spec": make_spec(seed=1)}, headers=headers)

    assert (first.status_code, repeated.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == repeated.json()["id"]
    assert first.headers["location"] == f"/v1/runs/{first.json()['id']}"


@ON_BOTH_DATABASES
def test_runs_are_listed_in_pages_and_by_what_they_are(stage: Stage) -> None:
    stage.add_dataset()
    ids = [stage.launch(spec=make_spec(tags={"team": name}))["id"] for name in ("a", "b", "a")]

    page = stage.http.get("/v1/runs", params={"limit": 2}).json()
    remaining_text = stage.http.get("/v1/runs", params={"cursor": page["next_cursor"]}).json()
    tagged = stage.http.get("/v1/runs", params={"tag": "team=a", "state": "queued"}).json()

    assert [run["id"] for run in page["items"] + remaining_text["items"]] == ids[::-1]
    assert remaining_text["next_cursor"] is None
    assert [run["id"] for run in tagged["items"]] == [ids[2], ids[0]]


@ON_BOTH_DATABASES
def test_a_plan_has_the_steps_and_the_time_of_a_run_like_it(stage: Stage) -> None:
    stage.add_dataset()
    first = stage.http.post("/v1/runs:plan", json={"spec": make_spec()}).json()
    run_id = submit_run(stage)
    deliver(stage, run_id, [make_started(stage), make_progress(stage)])
    stage.clock.advance(90)
    deliver(stage, run_id, [make_outcome(stage, "succeeded")], first=2)
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
    stage.run_loops()

    longer = make_spec(schedule={"epochs": 6}, seed=1)
    second = stage.http.post("/v1/runs:plan", json={"spec": longer}).json()
    elsewhere = stage.http.post("/v1/runs:plan", json={"spec": longer, "project": "other"}).json()

    assert first["estimate"] == {
        "epochs": 2,
        "steps_per_epoch": 1,
        "steps": 2,
        "duration_s": None,
        "reference_run_id": None,
    }
    assert second["estimate"] == {
        "epochs": 6,
        "steps_per_epoch": 2,
        "steps": 12,
        "duration_s": 270.0,
        "reference_run_id": run_id,
    }
    assert elsewhere["estimate"]["duration_s"] is None


def test_a_plan_says_what_stands_against_a_run_and_creates_nothing(stage: Stage) -> None:
    response = stage.http.post("/v1/runs:plan", json={"preset": "coco/bckd_r50_from_r101"})

    plan = response.json()
    assert response.status_code == 200
    assert {finding["field"] for finding in plan["findings"]} == {
        "data.dataset.name",
        "teacher.name",
        "resources.num_gpus",
        "student.backbone.pretrained",
    }
    assert plan["spec"]["distillation"]["loc_weight"] == 4.0
    assert stage.http.get("/v1/runs").json()["items"] == []


def test_logs_of_a_run_that_is_over_come_from_its_folder_and_following_ends(stage: Stage) -> None:
    run_id = submit_run(stage)
    log = stage.home / "runs" / run_id / "logs" / "attempt-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("the loss falls\n")
    deliver(stage, run_id, [make_outcome(stage, "succeeded")])
    stage.cluster.set_job_state(f"{run_id}-a1", "succeeded", exit_code=0)
    stage.run_loops()

    text = stage.http.get(f"/v1/runs/{run_id}/logs").text
    followed = stage.http.get(f"/v1/runs/{run_id}/logs", params={"follow": True}).text

    assert text == followed == "the loss falls\n"
