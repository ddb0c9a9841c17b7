"""Saved views for MLflow: mAP comes first, in columns and in charts."""

import json
from datetime import UTC, datetime
from typing import Any

from configs.catalog import parse_spec
from configs.metric_keys import Metric
from configs.spec.search import Uniform
from configs.spec.sweep import Objective, SweepSpec
from service.domain.mlflow_views import (
    PAIRS_VIEW,
    RUNS_VIEW,
    build_sweep_view_tags,
    build_view_tags,
)
from service.domain.sweeps import Sweep, SweepState
from tests.support.factories import make_bckd_spec

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MAX_TAG_CHARS = 20_000
"""MLflow refuses a longer tag of an experiment."""


def read_state(tags: dict[str, str], key: str) -> dict[str, Any]:
    tag = tags[f"mlflow.sharedViewState.{key}"]
    assert len(tag) < MAX_TAG_CHARS
    state: dict[str, Any] = json.loads(json.loads(tag)["state"])
    return state


def test_columns_and_charts_begin_with_map() -> None:
    state = read_state(build_view_tags(), RUNS_VIEW)

    assert state["selectedColumns"][0] == "metrics.`val/bbox_mAP`"
    assert state["compareRunSections"][0]["name"] == "val"
    first = state["compareRunCharts"][0]
    assert (first["metricKey"], first["metricSectionId"]) == (Metric.MAP, "section-val")


def test_every_chart_is_in_a_section_that_exists() -> None:
    state = read_state(build_view_tags(), RUNS_VIEW)
    sections = {section["uuid"]: section["name"] for section in state["compareRunSections"]}

    for chart in state["compareRunCharts"]:
        assert sections[chart["metricSectionId"]] == chart["metricKey"].split("/")[0]


def test_only_training_runs_are_listed() -> None:
    for key in (RUNS_VIEW, PAIRS_VIEW):
        assert read_state(build_view_tags(), key)["searchFilter"] == "tags.`tandem.task` = 'train'"


def test_pairs_are_grouped_by_their_tag() -> None:
    group_by = read_state(build_view_tags(), PAIRS_VIEW)["groupBy"]

    assert group_by["groupByKeys"] == [{"mode": "tag", "groupByData": "tandem.pair"}]


def test_a_sweep_lists_its_trials_by_their_objective() -> None:
    sweep = make_tracked_sweep(Objective(metric=Metric.LOSS, goal="min"))

    state = read_state(build_sweep_view_tags(sweep), sweep.id)

    assert "tags.`mlflow.parentRunId` = 'm1'" in state["searchFilter"]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`train/loss`", True)
    assert state["selectedColumns"][:3] == [
        "metrics.`train/loss`",
        "params.`distillation.loc_weight`",
        "metrics.`val/bbox_mAP`",
    ]


def test_a_column_is_there_once() -> None:
    columns = read_state(build_sweep_view_tags(make_tracked_sweep()), "s1")["selectedColumns"]

    assert len(columns) == len(set(columns))


def make_tracked_sweep(*objectives: Objective) -> Sweep:
    space = {"distillation.loc_weight": Uniform(low=0.0, high=4.0, when={})}
    spec = SweepSpec(base=parse_spec(make_bckd_spec()), space=space, tags={})
    if objectives:
        spec = spec.model_copy(update={"objectives": objectives})
    return Sweep(
        id="s1",
        name="weights",
        preset=None,
        spec=spec,
        state=SweepState.SEARCHING,
        created_at=NOON,
        updated_at=NOON,
        created_by="me",
        mlflow_run_id="m1",
    )
