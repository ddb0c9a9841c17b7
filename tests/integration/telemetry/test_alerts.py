"""The alerts fire when they should and not otherwise, checked by promtool."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.stack.prometheus import (
    ALERTS,
    Targets,
    find_prometheus,
    load_alert_rules,
    write_config,
)

CASES = sorted((Path(__file__).parents[2] / "alerts").glob("*.yaml"))
SEVERITIES = {"critical", "warning"}


@pytest.fixture(scope="module")
def promtool() -> str:
    programs = find_prometheus()
    if programs is None:
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    return programs[1]


def test_the_rules_are_valid(promtool: str) -> None:
    assert_success(promtool, "check", "rules", "--lint-fatal", str(ALERTS))


def test_the_configuration_is_valid(promtool: str, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.json"
    nodes.write_text('[{"labels": {"job": "ray"}, "targets": ["127.0.0.1:1"]}]')
    config = write_config(Targets("127.0.0.1:2", "127.0.0.1:3", nodes), tmp_path)

    assert_success(promtool, "check", "config", "--lint-fatal", str(config))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_alerts_fire_when_they_should(promtool: str, case: Path) -> None:
    assert_success(promtool, "test", "rules", str(case))


def test_every_alert_is_tried_where_it_fires_and_where_it_does_not() -> None:
    firing: set[str] = set()
    silent: set[str] = set()
    for case in CASES:
        for test in yaml.safe_load(case.read_text())["tests"]:
            for expression_test in test["promql_expr_test"]:
                name = re.search(r'alertname="(\w+)"', expression_test["expr"])
                assert name is not None
                (firing if expression_test["exp_samples"] else silent).add(name[1])

    names = {rule["alert"] for rule in load_alert_rules()}
    assert firing == names
    assert silent == names


@pytest.mark.parametrize("rule", load_alert_rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"]["summary"].endswith(".")
    assert "`tandem " in rule["annotations"]["description"]


def assert_success(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
