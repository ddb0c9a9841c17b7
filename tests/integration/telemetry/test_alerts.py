"""The alerts fire when they should and not otherwise, by Prometheus' own tool."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.stack.prometheus import ALERTS, Targets, config_for, prometheus_programs, rules

CASES = sorted((Path(__file__).parents[2] / "alerts").glob("*.yaml"))
SEVERITIES = {"critical", "warning"}


@pytest.fixture(scope="module")
def promtool() -> str:
    programs = prometheus_programs()
    if programs is None:
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    return programs[1]


def test_the_rules_are_valid(promtool: str) -> None:
    assert_success(promtool, "check", "rules", "--lint-fatal", str(ALERTS))


def test_the_configuration_is_valid(promtool: str, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.json"
    nodes.write_text('[{"labels": {"job": "ray"}, "targets": ["127.0.0.1:1"]}]')
    config = config_for(Targets("127.0.0.1:2", "127.0.0.1:3", nodes), tmp_path)

    assert_success(promtool, "check", "config", "--lint-fatal", str(config))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_alerts_fire_when_they_should(promtool: str, case: Path) -> None:
    assert_success(promtool, "test", "rules", str(case))


def test_every_alert_is_tried_where_it_fires_and_where_it_does_not() -> None:
    fires: set[str] = set()
    rests: set[str] = set()
    for case in CASES:
        for test in yaml.safe_load(case.read_text())["tests"]:
            for tried in test["promql_expr_test"]:
                name = re.search(r'alertname="(\w+)"', tried["expr"])
                assert name is not None
                (fires if tried["exp_samples"] else rests).add(name[1])

    names = {rule["alert"] for rule in rules()}
    assert fires == names
    assert rests == names


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"]["summary"].endswith(".")
    assert "`tandem " in rule["annotations"]["description"]


def assert_success(*command: str) -> None:
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr
