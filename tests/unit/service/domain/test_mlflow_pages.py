"""URLs of MLflow's pages: each selects the mode for training, and what it shows first."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from service.domain.mlflow_pages import MlflowPages
from service.domain.mlflow_views import PAIRS_VIEW, RUNS_VIEW

PAGES = MlflowPages("http://mlflow.lab:5500/", {"default": "1", "signs/eu": "7"})
UNKNOWN_IDS = MlflowPages("http://mlflow.lab:5500", {})


def split(url: str | None) -> tuple[str, dict[str, str]]:
    """The path of a page and its parameters."""
    assert url is not None
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.path) == ("http", "mlflow.lab:5500", "/")
    path, _, query = parts.fragment.partition("?")
    return path, {key: value for key, (value,) in parse_qs(query).items()}


@pytest.mark.parametrize(
    "url",
    [
        pages_url
        for pages in (PAGES, UNKNOWN_IDS)
        for pages_url in (
            pages.experiments(),
            pages.runs("default"),
            pages.runs("default", view=PAIRS_VIEW),
            pages.runs("default", has_charts=True),
            pages.run("abc", project="default"),
        )
    ],
)
def test_every_page_is_in_the_mode_for_training(url: str) -> None:
    assert split(url)[1]["workflowType"] == "machine_learning"


def test_the_runs_of_a_project_open_in_a_view() -> None:
    assert split(PAGES.runs("signs/eu")) == (
        "/experiments/7/runs",
        {"viewStateShareKey": RUNS_VIEW, "workflowType": "machine_learning"},
    )
    assert split(PAGES.runs("default", has_charts=True))[1]["compareRunsMode"] == "CHART"


def test_without_the_id_of_the_experiment_the_run_is_found_all_the_same() -> None:
    assert split(PAGES.run("abc", project="default"))[0] == "/experiments/1/runs/abc"
    assert split(UNKNOWN_IDS.run("abc", project="default"))[0] == "/runs/abc"
    assert split(UNKNOWN_IDS.runs("default"))[0] == "/experiments"


def test_a_comparison_shows_map_of_the_runs() -> None:
    path, parameters = split(PAGES.comparison(["a", "b"], project="signs/eu"))

    def load(name: str) -> Any:
        return json.loads(parameters[name])

    assert path == "/metric"
    assert load("runs") == ["a", "b"]
    assert load("experiments") == ["7"]
    assert load("metric") == "val/bbox_mAP"
    assert load("plot_metric_keys") == ["val/bbox_mAP"]
    assert UNKNOWN_IDS.comparison(["a", "b"], project="default") is None
