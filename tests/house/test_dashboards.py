"""The dashboards in the tree are those that the generator makes, and each panel explains itself."""

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from service.cli import app
from tests.support.stack.prometheus import DASHBOARDS, dashboards, metrics_in

ROOT = DASHBOARDS.parent
COLUMNS = 24

Panel = dict[str, Any]

NAMES = ("fleet", "run", "sweep")
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in dashboards().items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]


def test_the_dashboards_are_what_the_generator_makes(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "dashboards.generate", str(tmp_path)],
        cwd=ROOT,
        check=True,
    )

    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in _folder().iterdir()}
    assert made == kept, "run `make dashboards`"


def test_there_are_three_and_their_addresses_are_known() -> None:
    assert {name: one["uid"] for name, one in dashboards().items()} == {
        name: f"tandem-{name}" for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_ids_of_their_own_and_lie_beside_one_another(name: str) -> None:
    panels = dashboards()[name]["panels"]

    ids = [panel["id"] for panel in panels]
    over = [
        f"{one['title']} over {other['title']}"
        for one, other in combinations(panels, 2)
        if overlap(one["gridPos"], other["gridPos"])
    ]

    assert len(set(ids)) == len(ids)
    assert min(ids) > 0
    assert over == []
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

    asked = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]

    assert all(one == {"type": source["type"], "uid": source["uid"]} for one in asked)


def test_every_command_that_panels_and_alerts_name_exists() -> None:
    texts = "\n".join(
        path.read_text()
        for folder, kind in ((_folder(), "*.json"), (DASHBOARDS / "prometheus", "*.yml"))
        for path in folder.glob(kind)
    )

    asked = set(re.findall(r"`tandem ([a-z-]+)", " ".join(texts.split())))

    assert {"show", "doctor", "runs"} <= asked
    assert asked <= set(get_command(app).commands)  # type: ignore[attr-defined]


def test_variables_in_queries_are_declared() -> None:
    for name, dashboard in dashboards().items():
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
    assert metrics_in(expr) == names


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or below)


def _folder() -> Path:
    return DASHBOARDS / "grafana" / "dashboards"


def _provisioning() -> Path:
    return DASHBOARDS / "grafana" / "provisioning"
