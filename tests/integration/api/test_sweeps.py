"""Sweeps over the API; the tests simulate the driver and the workers."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.api.schemas.sweeps import ExtendRequest, PromoteRequest, SweepRequest
from service.client import TandemClient
from service.client_transport import TandemApiError
from service.domain.ports import Node
from tests.support.factories import make_spec
from tests.support.service.simulated_sweep import (
    CLS,
    LOC,
    MAP,
    SimulatedSweep,
    complete_sweep,
    make_sweep_request,
    start_search,
    train_trial,
)
from tests.support.service.stage import Stage, open_stage


def test_a_plan_launches_nothing_and_has_all_findings(stage: Stage) -> None:
    stage.add_dataset()
    body = make_sweep_request(algorithm={"kind": "grid", "points": 3}, repeats=2)

    planned = stage.http.post("/v1/sweeps:plan", json=body).json()

    assert (planned["trials"], planned["runs"]) == (4, 8)
    assert {finding["code"] for finding in planned["findings"]} == {
        "teacher_not_found",
        "grid_exceeds_trials",
    }
    assert stage.http.get("/v1/sweeps").json()["items"] == []


def test_findings_of_the_base_refuse_the_sweep(stage: Stage) -> None:
    response = stage.http.post("/v1/sweeps", json=make_sweep_request())

    assert response.status_code == 422
    assert {error["code"] for error in response.json()["errors"]} == {
        "dataset_not_found",
        "teacher_not_found",
    }


RANGE = {"kind": "uniform", "low": 0, "high": 1}
INVALID_REQUESTS = {
    "nothing": ({"space": {}}, "space"),
    "no space": ({"space": None}, "space"),
    "no kind": ({"space": {CLS: {"low": 0, "high": 1}}}, f"space.{CLS}.kind"),
    "another kind": ({"space": {CLS: {"kind": "normal"}}}, f"space.{CLS}.kind"),
    "bounds the wrong way": ({"space": {CLS: RANGE | {"high": -1}}}, f"space.{CLS}"),
    "no bound": ({"space": {CLS: {"kind": "uniform", "low": 0}}}, f"space.{CLS}.high"),
    "a field that is none": ({"space": {"distillation.typo": RANGE}}, "space.distillation.typo"),
    "a field that may not vary": ({"space": {"seed": RANGE}}, "space"),
    "below what may be": ({"space": {CLS: RANGE | {"low": -1}}}, f"space.{CLS}"),
    "a condition on nothing": ({"space": {CLS: RANGE | {"when": {"x": [1]}}}}, "space"),
    "a parameter twice": ({"space": {CLS: RANGE, "ratio": RANGE}}, "space"),
    "a coordinate search of one": (
        {"space": {CLS: RANGE}, "algorithm": {"kind": "coordinate"}},
        "algorithm",
    ),
    "an unknown algorithm": ({"algorithm": {"kind": "magic"}}, "algorithm.kind"),
    "a scheduler that never stops": (
        {"scheduler": {"kind": "asha", "grace_epochs": 9}},
        "scheduler.grace_epochs",
    ),
    "no trials": ({"budget": {"trials": 0}}, "budget.trials"),
    "text for trials": ({"budget": {"trials": "many"}}, "budget.trials"),
    "GPU hours on a CPU": ({"budget": {"gpu_hours": 2}}, "budget.gpu_hours"),
    "a pack of none": ({"pack": 0}, "pack"),
    "a pack of text": ({"pack": "all"}, "pack"),
    "a first point outside": ({"initial_points": [{"distillation.typo": 1}]}, "initial_points.0"),
    "a first point that cannot be": ({"initial_points": [{CLS: -1}]}, "initial_points.0"),
    "objectives twice": ({"objectives": [{"metric": MAP}, {"metric": MAP}]}, "objectives"),
    "another field": ({"color": "red"}, "color"),
    "a base that cannot be": ({"spec": make_spec(schedule={"epochs": 0})}, "schedule.epochs"),
    "a base that is none": ({"spec": None}, ""),
    "a long name": ({"name": "x" * 201}, "name"),
}


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One service for all refused requests, which create nothing."""
    with open_stage(tmp_path_factory.mktemp("refusing")) as created:
        created.add_dataset()
        created.add_teacher()
        yield created


@pytest.mark.parametrize(
    ("changes", "field"), INVALID_REQUESTS.values(), ids=INVALID_REQUESTS.keys()
)
def test_an_invalid_request_names_its_field_and_creates_nothing(
    refusing: Stage, changes: dict[str, Any], field: str
) -> None:
    for path in ("/v1/sweeps", "/v1/sweeps:plan"):
        response = refusing.http.post(path, json=make_sweep_request(**changes))

        if response.status_code == 200:  # a plan returns findings
            fields = [finding["field"] for finding in response.json()["findings"]]
        else:
            assert response.status_code == 422, response.text
            fields = [error["field"] for error in response.json()["errors"]]
        assert field in fields
    assert refusing.http.get("/v1/sweeps").json()["items"] == []
    assert refusing.http.get("/v1/runs").json()["items"] == []


def test_the_same_key_gives_the_same_sweep(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    headers = {"Idempotency-Key": "once"}

    first = stage.http.post("/v1/sweeps", json=make_sweep_request(), headers=headers)
    repeated = stage.http.post("/v1/sweeps", json=make_sweep_request(), headers=headers)
    other = stage.http.post("/v1/sweeps", json=make_sweep_request(seed=1), headers=headers)

    assert (first.status_code, repeated.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == repeated.json()["id"]
    assert len(stage.http.get("/v1/sweeps").json()["items"]) == 1


def test_pages_of_sweeps_continue_after_the_previous_one(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    created = [
        stage.http.post("/v1/sweeps", json=make_sweep_request()).json()["id"] for _ in range(3)
    ]

    first = stage.http.get("/v1/sweeps", params={"limit": 2}).json()
    second = stage.http.get("/v1/sweeps", params={"cursor": first["next_cursor"]}).json()

    assert [item["id"] for item in first["items"] + second["items"]] == created[::-1]
    assert second["next_cursor"] is None
    assert stage.http.get("/v1/sweeps", params={"cursor": "s-none"}).status_code == 404
    assert stage.http.get("/v1/sweeps/snone").status_code == 404


def test_entries_are_written_once_and_where_they_belong(stage: Stage) -> None:
    sweep = start_search(stage)
    entry = {"kind": "suggested", "number": 0, "values": {CLS: 1.0, LOC: 1}}

    first = sweep.write(entry, first=0)
    repeated = sweep.write(entry, first=0)
    other = sweep.write({**entry, "values": {CLS: 2.0, LOC: 1}}, first=0)
    gap = sweep.write({**entry, "number": 1}, first=5)
    skipped = sweep.write({**entry, "number": 2}, first=1)

    assert (first.json(), repeated.json()) == ({"next": 1, "allows_new_trials": True},) * 2
    assert (other.status_code, other.json()["code"]) == (409, "sweep_log_conflict")
    assert (gap.status_code, gap.json()["code"]) == (409, "sweep_log_conflict")
    assert (skipped.status_code, skipped.json()["errors"][0]["field"]) == (422, "entries.0")
    assert len(sweep.entries) == 1
    assert len(stage.http.get("/v1/runs", params={"sweep": sweep.id}).json()["items"]) == 1


def test_entries_that_are_refused_leave_nothing_half_done(stage: Stage) -> None:
    sweep = start_search(stage)
    valid_entry = {"kind": "suggested", "number": 0, "values": {CLS: 1.0, LOC: 1}}

    response = sweep.write(valid_entry, {"kind": "ended", "number": 7, "result": "finished"})

    assert response.status_code == 422
    assert sweep.entries == []
    assert stage.http.get("/v1/runs").json()["items"] == []


def test_repeats_are_runs_with_seeds_of_their_own_whose_mean_counts(stage: Stage) -> None:
    stage.cluster.cluster_nodes = (Node(4.0, 0.0, 4.0, 0.0),)
    sweep = start_search(stage, repeats=2, tags={"team": "a"})
    runs = sweep.suggest(0)
    stage.run_loops()

    sweep.report_evaluation(runs[0], 1, 0.2)
    before = sweep.progress()[0]
    sweep.report_evaluation(runs[1], 1, 0.4)

    assert [stage.run(run_id)["spec"]["seed"] for run_id in runs] == [0, 1]
    assert stage.run(runs[0])["spec"]["tags"] == {"team": "a"}
    assert before["evaluations"] == []
    evaluations = sweep.progress()[0]["evaluations"]
    assert evaluations == [{"epoch": 1, "values": {MAP: pytest.approx(0.3)}}]
    assert sweep.trials[0]["objectives"] == {MAP: pytest.approx(0.3)}


def test_a_trial_with_invalid_values_fails(stage: Stage) -> None:
    space = {"distillation.cls_weight": {"kind": "choice", "values": [1, 2]}}
    sweep = start_search(stage, space=space)

    response = sweep.write({"kind": "suggested", "number": 0, "values": {CLS: -5}})

    assert response.is_success
    assert sweep.progress()[0]["result"] == "failed"
    assert "cls_weight" in sweep.trials[0]["message"]
    assert sweep.trials[0]["runs"] == []


def test_a_trial_that_the_scheduler_stops_has_an_event_with_the_reason(stage: Stage) -> None:
    sweep = start_search(stage, scheduler={"kind": "asha"})
    (run_id,) = sweep.suggest(0)
    stage.run_loops()
    sweep.report_evaluation(run_id, 1, 0.1234)

    sweep.write(
        {
            "kind": "judged",
            "number": 0,
            "epoch": 1,
            "values": {MAP: 0.1234},
            "should_continue": False,
        }
    )

    assert stage.run(run_id)["desired"] == "cancelled"
    events = stage.http.get(f"/v1/runs/{run_id}/events").json()["items"]
    (cancellation,) = [event for event in events if event["kind"] == "cancel_requested"]
    assert cancellation["actor"] == "sweep"
    assert cancellation["details"].startswith(
        "Stopped by asha after epoch 1: its val/bbox_mAP was 0.1234"
    )
    sweep.finish(run_id, "cancelled")
    assert sweep.progress()[0]["result"] == "stopped"


def test_a_trial_that_a_person_cancels_is_cancelled(stage: Stage) -> None:
    sweep = start_search(stage)
    (run_id,) = sweep.suggest(0)

    stage.http.post(f"/v1/runs/{run_id}:cancel")

    assert sweep.progress()[0]["result"] == "cancelled"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        *[({}, 2), ({"concurrency": 3}, 3), ({"repeats": 2}, 1), ({"pack": 2}, 4)],
        ({"pack": 3, "repeats": 4}, 3),
    ],
    ids=["as the cluster has room", "as asked", "over repeats", "in packs", "to fill a pack"],
)
def test_a_driver_gets_the_number_of_concurrent_trials(
    stage: Stage, changes: dict[str, Any], expected: int
) -> None:
    sweep = start_search(stage, **changes)

    assert sweep.log()["concurrency"] == expected


def test_the_log_is_read_from_a_position_on(stage: Stage) -> None:
    sweep = start_search(stage)
    sweep.suggest(0)
    sweep.suggest(1)

    log = stage.http.get(f"/v1/sweeps/{sweep.id}/log", params={"first": 1}).json()

    assert [entry["number"] for entry in log["entries"]] == [1]


def test_a_finished_sweep_is_extended_and_searches_on(stage: Stage) -> None:
    sweep = start_search(stage)
    train_trial(sweep, 0, 0.3)
    complete_sweep(sweep)
    wider = {**make_sweep_request()["space"], CLS: {"kind": "uniform", "low": 0, "high": 50}}
    more = {"trials": 2, "space": wider, "algorithm": {"kind": "tpe"}}

    extended = stage.http.post(f"/v1/sweeps/{sweep.id}:extend", json=more).json()

    assert (extended["state"], extended["report_run_id"]) == ("searching", None)
    assert extended["spec"]["budget"]["trials"] == 3
    assert extended["spec"]["space"][CLS]["high"] == 50
    assert sweep.entries[-1]["kind"] == "extended"
    stage.run_loops()
    assert f"{sweep.id}-d2" in stage.cluster.job_requests
    train_trial(sweep, 1, 0.4, **{CLS: 40.0, LOC: 1})
    complete_sweep(sweep)
    assert sweep.state == "succeeded"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"trials": 0}, "trials"),
        ({"trials": 2, "space": {"distillation.typo": RANGE}}, "space.distillation.typo"),
        ({"trials": 2, "algorithm": {"kind": "magic"}}, "algorithm.kind"),
        ({"trials": 2, "space": {"ratio": RANGE}}, "space"),
        ({"trials": 2, "gpu_hours": 1}, "budget.gpu_hours"),
        ({"color": "red"}, "color"),
        ({}, "trials"),
    ],
)
def test_an_extension_that_cannot_be_changes_nothing(
    stage: Stage, more: dict[str, Any], field: str
) -> None:
    sweep = start_search(stage, budget={"trials": 1})
    train_trial(sweep, 0, 0.3)
    complete_sweep(sweep)

    response = stage.http.post(f"/v1/sweeps/{sweep.id}:extend", json=more)

    assert response.status_code == 422
    assert field in [error["field"] for error in response.json()["errors"]]
    assert (sweep.state, sweep.entries[-1]["kind"]) == ("succeeded", "closed")


def test_actions_that_do_not_fit_the_state_are_refused(stage: Stage) -> None:
    sweep = start_search(stage)

    extended = stage.http.post(f"/v1/sweeps/{sweep.id}:extend", json={"trials": 1})
    promoted = stage.http.post(f"/v1/sweeps/{sweep.id}:promote", json={})
    sweep.close()
    stage.run_loops()
    response = stage.http.post(f"/v1/sweeps/{sweep.id}:stop")
    late = sweep.write({"kind": "suggested", "number": 0, "values": {CLS: 1.0}})

    assert extended.json()["code"] == "invalid_sweep_transition"
    assert promoted.json()["code"] == "nothing_to_promote"
    assert response.json()["code"] == "invalid_sweep_transition"
    assert (late.status_code, late.json()["code"]) == (409, "invalid_sweep_transition")


def test_the_best_trial_becomes_a_run_of_its_own(stage: Stage) -> None:
    sweep = start_search(stage)
    train_trial(sweep, 0, 0.3, **{CLS: 1.0, LOC: 1})
    train_trial(sweep, 1, 0.5, **{CLS: 2.5, LOC: 0})
    url = f"/v1/sweeps/{sweep.id}:promote"

    best = stage.http.post(url, json={"changes": {"schedule.epochs": 24}}).json()
    other = stage.http.post(url, json={"trial": 0, "name": "the other"}).json()

    assert best["spec"]["distillation"]["cls_weight"] == 2.5
    assert (best["spec"]["schedule"]["epochs"], best["sweep_id"]) == (24, None)
    assert "promoted" in best["name"]
    assert (other["name"], other["spec"]["distillation"]["cls_weight"]) == ("the other", 1.0)
    assert stage.http.post(url, json={"trial": 9}).status_code == 409
    invalid = stage.http.post(url, json={"changes": {"schedule.epochs": -1}})
    assert invalid.json()["errors"][0]["field"] == "schedule.epochs"


def test_runs_are_found_by_their_sweep_and_trial(stage: Stage) -> None:
    sweep, other = start_search(stage), start_search(stage)
    (first,) = sweep.suggest(0)
    (second,) = sweep.suggest(1)
    other.suggest(0)

    of_sweep = stage.http.get("/v1/runs", params={"sweep": sweep.id}).json()["items"]
    of_trial = stage.http.get("/v1/runs", params={"sweep": sweep.id, "trial": 1}).json()["items"]

    assert {run["id"] for run in of_sweep} == {first, second}
    assert [run["id"] for run in of_trial] == [second]


def test_the_typed_client_covers_sweeps(stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher()
    with TandemClient("http://localhost", transport=stage.transport) as client:
        request = SweepRequest.model_validate(make_sweep_request(probe=False))
        assert client.plan_sweep(request).trials == 4
        view = client.launch_sweep(request, idempotency_key="once")
        sweep = SimulatedSweep(stage, view.id)
        stage.run_loops()
        train_trial(sweep, 0, 0.3)
        assert [trial.state for trial in client.trials(view.id)] == ["finished"]
        complete_sweep(sweep)

        assert client.sweep(view.id).is_over
        assert [item.id for item in client.sweeps().items] == [view.id]
        assert client.report(view.id) == "# Did it help?"
        assert client.promote(view.id, PromoteRequest()).state == "queued"
        assert client.extend_sweep(view.id, ExtendRequest(trials=1)).state == "searching"
        assert client.stop_sweep(view.id).desired == "stop"
        with pytest.raises(TandemApiError, match="no sweep"):
            client.sweep("s000000000000")
