"""GET /v1/runs: filters, order, gain and size of the list of runs."""

import json
from typing import Any

import pytest

from tests.support.factories import make_bckd_spec, make_spec
from tests.support.service.baseline_pairs import make_comparison, make_report, train_pair, train_run
from tests.support.service.stage import ON_BOTH_DATABASES, Stage

MAX_BYTES_PER_RUN = 1024


def list_ids(stage: Stage, query: str) -> list[str]:
    response = stage.http.get(f"/v1/runs?{query}")
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


@ON_BOTH_DATABASES
def test_filters_combine_and_a_repeated_one_takes_any_of_its_values(stage: Stage) -> None:
    for name in ("pets", "cars"):
        stage.add_dataset(name)
    on_cars = {"dataset": {"name": "cars"}, "image_size": [96, 96], "batch_size": 4}
    first = stage.launch(spec=make_spec(), project="vision")["id"]
    second = stage.launch(spec=make_spec(data=on_cars), project="vision")["id"]
    third = stage.launch(spec=make_spec(seed=1))["id"]
    stage.http.post(f"/v1/runs/{second}:cancel")
    stage.http.post(f"/v1/runs/{third}:pause")

    assert list_ids(stage, "project=vision") == [second, first]
    assert list_ids(stage, "dataset=cars") == [second]
    assert list_ids(stage, "state=queued&state=paused") == [third, first]
    assert list_ids(stage, "state=queued&state=paused&project=vision") == [first]
    assert list_ids(stage, "task=evaluate&task=export") == []
    assert list_ids(stage, "preset=quick/instant") == []


@ON_BOTH_DATABASES
def test_runs_by_map_are_paged_without_those_that_have_none(stage: Stage) -> None:
    stage.add_dataset()
    scores = (0.2, 0.4, 0.3, 0.4)
    ids = [stage.launch(spec=make_spec(seed=seed))["id"] for seed in range(len(scores) + 1)]
    for run_id, score in zip(ids, scores, strict=False):
        train_run(stage, run_id, score)

    page = stage.http.get("/v1/runs?sort=best_map&limit=2").json()
    last_page = list_ids(stage, f"sort=best_map&limit=9&cursor={page['next_cursor']}")

    assert [item["id"] for item in page["items"]] == [ids[3], ids[1]]
    assert last_page == [ids[2], ids[0]]


def test_a_listed_run_has_its_gain_once_both_have_succeeded(stage: Stage) -> None:
    run_id, baseline_id = train_pair(stage)
    other = stage.launch(spec=make_bckd_spec(seed=1))["id"]

    def read_gains() -> dict[str, tuple[Any, Any]]:
        items = stage.http.get("/v1/runs").json()["items"]
        return {item["id"]: (item["gain"], item["verdict"]) for item in items}

    before = read_gains()
    report_id = stage.run(run_id)["report_run_id"]
    make_report(stage, report_id, make_comparison(run_id, baseline_id))

    assert before[run_id] == (pytest.approx(0.023), None)
    assert before[baseline_id] == before[other] == before[report_id] == (None, None)
    assert read_gains()[run_id] == (pytest.approx(0.023), "helps")


def test_a_listed_run_is_light(stage: Stage) -> None:
    run_id, _ = train_pair(stage)

    response = stage.http.get("/v1/runs")

    items = response.json()["items"]
    assert len(items) == 3
    assert len(response.content) <= MAX_BYTES_PER_RUN * len(items)
    item = next(run for run in items if run["id"] == run_id)
    assert item["dataset"] == "pets"
    assert item["progress"]["epochs"] == 2
    assert "spec" not in item
    assert "latest" not in item
    assert len(json.dumps(stage.run(run_id))) > 2 * MAX_BYTES_PER_RUN


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=odd", "state"),
        ("state=queued&state=odd", "state"),
        ("task=dance", "task"),
        ("sort=name", "sort"),
        ("limit=500", "limit"),
        ("colour=red", "colour"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(stage: Stage, query: str, field: str) -> None:
    response = stage.http.get(f"/v1/runs?{query}")

    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


def test_every_parameter_of_the_list_is_described(stage: Stage) -> None:
    operation = stage.http.get("/openapi.json").json()["paths"]["/v1/runs"]["get"]

    assert [item["name"] for item in operation["parameters"] if not item.get("description")] == []
