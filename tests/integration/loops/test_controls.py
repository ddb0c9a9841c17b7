"""Controls of a distilled run: launched, planned, reused, repeated and refused."""

from typing import Any

import pytest

from configs.spec.jobs import ReportSpec
from service.usecases.report_inputs import build_report_inputs
from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.baseline_pairs import (
    launch_pair,
    list_event_kinds,
    train_run,
)
from tests.support.service.runs import list_run_ids
from tests.support.service.stage import Stage

BOTH = ["random_teacher", "shuffled_teacher"]


def launch(stage: Stage, **changes: Any) -> Any:
    stage.add_dataset()
    stage.add_teacher()
    return stage.launch(**{"spec": make_bckd_spec(), "controls": BOTH} | changes)


def find_controls(stage: Stage) -> dict[tuple[str, int], Any]:
    """The controls by kind and seed."""
    runs = [stage.run(run_id) for run_id in list_run_ids(stage)]
    return {
        (run["spec"]["control"], run["spec"]["seed"]): run
        for run in runs
        if "control" in run["spec"]
    }


def test_controls_are_the_same_run_with_another_teacher_and_its_baseline(stage: Stage) -> None:
    run = launch(stage)

    controls = find_controls(stage)
    assert {kind for kind, _ in controls} == set(BOTH)
    for (kind, _), control in controls.items():
        assert control["spec"] == run["spec"] | {"control": kind}
        assert control["name"] == f"{run['name']}, {kind}"
        assert control["baseline_run_id"] == run["baseline_run_id"]
        events = stage.http.get(f"/v1/runs/{control['id']}/events").json()["items"]
        assert f"Launched as a control of run {run['id']}" in events[0]["details"]
    assert len(list_run_ids(stage)) == 4
    kinds = list_event_kinds(stage, run["id"])
    assert kinds == ["launched", "baseline_assigned", "control_assigned", "control_assigned"]


def test_equal_controls_are_reused(stage: Stage) -> None:
    launch(stage, controls=BOTH[:1])

    launch(stage, spec=make_bckd_spec(tags={"k": "v"}))

    assert len(find_controls(stage)) == 2
    assert len(list_run_ids(stage)) == 5


def test_a_plan_shows_the_controls_and_launches_none(stage: Stage) -> None:
    run = launch(stage, controls=BOTH[:1])
    existing = find_controls(stage)["random_teacher", 0]["id"]
    for run_id in (run["id"], run["baseline_run_id"], existing):
        train_run(stage, run_id, 0.2)

    body = {"spec": make_bckd_spec(), "controls": BOTH}
    planned = stage.http.post("/v1/runs:plan", json=body).json()["controls"]

    assert planned == [
        {"control": "random_teacher", "run_id": existing, "state": "succeeded", "best_map": 0.2},
        {"control": "shuffled_teacher", "run_id": None, "state": None, "best_map": None},
    ]
    assert set(find_controls(stage)) == {("random_teacher", 0)}


ONE_IMAGE_AT_ONCE = make_bckd_spec(compute={"grad_accumulation_steps": 4})


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"spec": make_spec()}, "no_baseline", "has none"),
        ({"baseline": "off"}, "no_baseline", "leave the baseline on"),
        ({"spec": make_bckd_spec(control="random_teacher")}, "is_control", "a control itself"),
        ({"spec": ONE_IMAGE_AT_ONCE}, "control_impossible", "it loads 1 at once"),
    ],
    ids=["no teacher", "no baseline", "a control", "one image at once"],
)
def test_controls_that_show_nothing_are_refused(
    stage: Stage, body: dict[str, Any], code: str, message: str
) -> None:
    stage.add_dataset()
    stage.add_teacher()
    request = {"spec": make_bckd_spec(), "controls": BOTH} | body

    response = stage.http.post("/v1/runs", json=request)

    assert response.status_code == 422
    (problem,) = response.json()["errors"]
    assert (problem["field"], problem["code"]) == ("controls", code)
    assert message in problem["message"]
    assert list_run_ids(stage) == []


def test_a_control_is_given_once(stage: Stage) -> None:
    request = {"spec": make_bckd_spec(), "controls": ["random_teacher", "random_teacher"]}

    response = stage.http.post("/v1/runs", json=request)

    assert response.status_code == 422
    assert "given once" in response.text


def test_repeated_pairs_have_the_controls_of_the_run(stage: Stage) -> None:
    run = launch(stage, controls=BOTH[1:])

    for _ in range(2):
        stage.http.post(f"/v1/runs/{run['id']}:repeat", json={"seeds": 3}).raise_for_status()

    assert set(find_controls(stage)) == {("shuffled_teacher", seed) for seed in range(3)}
    assert len(list_run_ids(stage)) == 9


def test_controls_can_be_added_to_existing_pairs(stage: Stage) -> None:
    run_id, _ = launch_pair(stage)

    body = {"seeds": 2, "controls": BOTH[:1]}
    stage.http.post(f"/v1/runs/{run_id}:repeat", json=body).raise_for_status()

    assert set(find_controls(stage)) == {("random_teacher", 0), ("random_teacher", 1)}


def test_reports_of_a_run_and_of_its_controls_have_all_of_them(stage: Stage) -> None:
    run = launch(stage)
    controls = find_controls(stage)
    control_ids = [controls[kind, 0]["id"] for kind in BOTH]
    for run_id in (run["id"], run["baseline_run_id"], *control_ids):
        train_run(stage, run_id, 0.3)

    for run_id in (run["id"], *control_ids):
        inputs = build_report_inputs(ReportSpec(run=run_id, tags={}), ctx=stage.ctx)

        assert inputs.title == run["name"]
        assert {member.id: member.role for member in inputs.runs} == {
            run["id"]: "distilled",
            run["baseline_run_id"]: "baseline",
            **dict.fromkeys(control_ids, "control"),
        }
        assert {member.baseline for member in inputs.runs} == {None, run["baseline_run_id"]}
    assert all(stage.run(run_id)["report_run_id"] for run_id in (run["id"], *control_ids))


def test_a_control_without_its_run_has_a_report_of_its_own(stage: Stage) -> None:
    run = launch(stage, controls=BOTH[:1])
    control = find_controls(stage)["random_teacher", 0]
    stage.http.post(f"/v1/runs/{run['id']}:cancel")
    for run_id in (run["baseline_run_id"], control["id"]):
        train_run(stage, run_id, 0.3)

    inputs = build_report_inputs(ReportSpec(run=control["id"], tags={}), ctx=stage.ctx)

    assert inputs.title == control["name"]
    assert [member.role for member in inputs.runs] == ["control", "baseline"]
