"""The committed dashboards are those of the generator, and each panel has a description."""

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from service.cli import create_app
from tests.support.stack.prometheus import DASHBOARDS, load_dashboards, parse_metric_names

ROOT = DASHBOARDS.parent
COLUMNS = 24

Panel = dict[str, Any]

NAMES = ("fleet", "run", "sweep")
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in load_dashboards().items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]


def test_the_dashboards_are_what_the_generator_makes(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "dashboards.generate", str(tmp_path)],
        cwd=ROOT,
        check=True,
    )

    generated = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in _folder().iterdir()}
    assert generated == committed, "run `make dashboards`"


def test_there_are_three_and_their_addresses_are_known() -> None:
    assert {name: dashboard["uid"] for name, dashboard in load_dashboards().items()} == {
        name: f"tandem-{name}" for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_ids_of_their_own_and_lie_beside_one_another(name: str) -> None:
    panels = load_dashboards()[name]["panels"]

    ids = [panel["id"] for panel in panels]
    overlapping = [
        f"{first['title']} over {second['title']}"
        for first, second in combinations(panels, 2)
        if overlap(first["gridPos"], second["gridPos"])
    ]

    assert len(set(ids)) == len(ids)
    assert min(ids) > 0
    assert overlapping == []
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= COLUMNS for panel in panels)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_in_what_unit(panel: Panel) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_the_data_source_that_is_provisioned(panel: Panel) -> None:
    path = _provisioning() / "datasources" / "prometheus.yaml"
    (source,) = yaml.safe_load(path.read_text())["datasources"]

    data_sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]

    assert all(
        data_source == {"type": source["type"], "uid": source["uid"]}
        for data_source in data_sources
    )


def test_every_command_that_panels_and_alerts_name_exists() -> None:
    texts = "\n".join(
        path.read_text()
        for folder, kind in ((_folder(), "*.json"), (DASHBOARDS / "prometheus", "*.yml"))
        for path in folder.glob(kind)
    )

    commands = set(re.findall(r"`tandem ([a-z-]+)", " ".join(texts.split())))

    assert {"show", "doctor", "runs"} <= commands
    assert commands <= set(get_command(create_app()).commands)  # type: ignore[attr-defined]


def test_variables_in_queries_are_declared() -> None:
    for name, dashboard in load_dashboards().items():
        declared = {variable["name"] for variable in dashboard["templating"]["list"]}

        used = {
            variable
            for variable in NAMES
            for panel in dashboard["panels"]
            for target in panel.get("targets", [])
            if f"${variable}" in target["expr"]
        }

        assert used <= declared, name


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ("up == 0", {"up"}),
        ('sum by (state) (max by (a, b) (runs{state=~"by|c"}))', {"runs"}),
        ("histogram_quantile(0.95, sum by (le) (rate(s_bucket[1m])))", {"s_bucket"}),
        ('label_replace(x, "of", "$1", "name", "(.*)") and on (of) y offset 30m', {"x", "y"}),
        ("min(a:b / c) > bool 2 * 1e3 or vector(0) unless d", {"a:b", "c", "d"}),
    ],
)
def test_the_metrics_of_a_query_are_found(expr: str, names: set[str]) -> None:
    assert parse_metric_names(expr) == names


def overlap(first: dict[str, int], second: dict[str, int]) -> bool:
    is_horizontally_apart = (
        first["x"] + first["w"] <= second["x"] or second["x"] + second["w"] <= first["x"]
    )
    is_vertically_apart = (
        first["y"] + first["h"] <= second["y"] or second["y"] + second["h"] <= first["y"]
    )
    return not (is_horizontally_apart or is_vertically_apart)


def _folder() -> Path:
    return DASHBOARDS / "grafana" / "dashboards"


def _provisioning() -> Path:
    return DASHBOARDS / "grafana" / "provisioning"
