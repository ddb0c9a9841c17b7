"""A Prometheus of the tests' own, and whether it can answer what dashboards and alerts ask."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from service.stack.ports import choose_free_port

DASHBOARDS = Path(__file__).parents[3] / "dashboards"
CONFIG = DASHBOARDS / "prometheus" / "prometheus.yml"
ALERTS = DASHBOARDS / "prometheus" / "alerts.yml"
JOBS = frozenset({"tandem", "ray", "mlflow"})

GPU_ONLY = {"ray_node_gpus_utilization", "ray_node_gram_available", "ray_node_gram_used"}
"""Ray tells these of a node with a GPU: `METRICS_GAUGES` of its reporter_agent.py."""

AFTER_AN_EVENT = {
    "tandem_attempts_ended",  # an attempt that has ended
    "tandem_loop_failures_total",  # a loop's turn that broke
    "tandem_sweep_best",  # a trial that has been evaluated
}
"""The service documents these, and has values once it happened."""

OF_PROMETHEUS = {"ALERTS"}
"""Made by Prometheus itself, while an alert is pending or fires."""

NOT_YET = frozenset(GPU_ONLY | AFTER_AN_EVENT | OF_PROMETHEUS)
"""What dashboards and alerts ask for and what need not be there while all is well."""

_PATIENCE_S = 60


@dataclass(frozen=True)
class Targets:
    """Where the jobs of `prometheus.yml` are answered here, without `http://`."""

    service: str
    mlflow: str
    ray_nodes: Path
    token: str = "none"


@dataclass(frozen=True)
class Question:
    """What a panel, a variable or a rule asks."""

    place: str
    expr: str

    def filled_in(self, variables: Mapping[str, str]) -> str:
        """With Grafana's variables, as Grafana would."""
        filled = self.expr
        for name, value in variables.items():
            filled = filled.replace(f"${name}", value)
        return filled


@dataclass(frozen=True)
class Answer:
    """What came back: the series, or why it cannot be asked."""

    question: Question
    expr: str
    series: list[dict[str, Any]]
    error: str = ""


def prometheus_programs() -> tuple[str, str] | None:
    """Prometheus and promtool; none where they are not installed."""
    server, tool = shutil.which("prometheus"), shutil.which("promtool")
    return None if server is None or tool is None else (server, tool)


def config_for(targets: Targets, folder: Path, *, every_s: int = 4) -> Path:
    """The real configuration with these addresses, in a folder that exists."""
    config = yaml.safe_load(CONFIG.read_text())
    pace = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    config["global"] |= dict.fromkeys(pace, f"{every_s}s")
    config["rule_files"] = [str(ALERTS.parent / name) for name in config["rule_files"]]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    token = folder / "viewer-token"
    token.write_text(targets.token)
    jobs["tandem"]["authorization"]["credentials_file"] = str(token)
    jobs["tandem"]["static_configs"] = [{"targets": [targets.service]}]
    jobs["mlflow"]["static_configs"] = [{"targets": [targets.mlflow]}]
    jobs["ray"]["file_sd_configs"][0]["files"] = [str(targets.ray_nodes)]
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(config))
    return written


@contextmanager
def a_prometheus(config: Path, folder: Path) -> Iterator[str]:
    """A server with this configuration, and where it answers."""
    programs = prometheus_programs()
    assert programs is not None
    address = f"127.0.0.1:{choose_free_port()}"
    log = folder / "prometheus.log"
    with log.open("wb") as said:
        server = subprocess.Popen(
            [
                programs[0],
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'series'}",
                f"--web.listen-address={address}",
            ],
            stdout=said,
            stderr=said,
        )
    try:
        _wait_until_ready(f"http://{address}", server, log)
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(timeout=_PATIENCE_S)


def wait_for_two_scrapes(url: str, *, patience_s: float = _PATIENCE_S) -> None:
    """Returns when every job has been scraped twice, and answered."""
    deadline_s = time.monotonic() + patience_s
    while not _has_scraped_twice(url):
        assert time.monotonic() < deadline_s, _troubles(url)
        time.sleep(0.5)


def answers(url: str, variables: Mapping[str, str]) -> list[Answer]:
    """What Prometheus at `url` says to every panel, variable and rule."""
    filling = {"__rate_interval": "1m", "__range": "1h", **variables}
    return [_asked(url, question, question.filled_in(filling)) for question in questions()]


def faults(
    url: str, *, variables: Mapping[str, str], not_yet: frozenset[str] = frozenset()
) -> list[str]:
    """Queries that do not parse, and metrics that do not exist but for those that need not yet."""
    known = set(_get(url, "label/__name__/values"))
    told = answers(url, variables)
    refused = [f"{one.question.place}: {one.error} in {one.expr}" for one in told if one.error]
    missing = [
        f"{one.question.place}: there is no {name}"
        for one in told
        for name in sorted(metrics_in(one.expr) - known - not_yet)
    ]
    return refused + missing


def documented_metrics(url: str) -> set[str]:
    """Metrics that a target has a HELP line for, whether or not it has values yet."""
    return set(_get(url, "metadata"))


def questions() -> list[Question]:
    """Everything that is asked by the dashboards and alerts in the tree."""
    return [*_of_dashboards(), *_of_rules()]


def dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards in the tree."""
    paths = sorted((DASHBOARDS / "grafana" / "dashboards").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def rules() -> list[dict[str, Any]]:
    """The alerts in the tree."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics_in(expr: str) -> set[str]:
    """The names of metrics in a query."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\boffset\s+\w+", "", bare)
    words = set(re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*(?!\w*\s*\()", bare))
    return words - {"and", "or", "unless", "bool"}


def _of_dashboards() -> Iterator[Question]:
    for name, dashboard in dashboards().items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"query_result\((.*)\)", variable["query"])
                assert asked is not None
                yield Question(f"{name}, ${variable['name']}", asked[1])
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield Question(f"{name}, {panel['title']}", target["expr"])


def _of_rules() -> Iterator[Question]:
    for rule in rules():
        yield Question(f"alert {rule['alert']}", rule["expr"])


def _asked(url: str, question: Question, expr: str) -> Answer:
    response = httpx.post(f"{url}/api/v1/query", data={"query": expr})
    body = response.json()
    if body["status"] != "success":
        return Answer(question, expr, [], body["error"])
    return Answer(question, expr, body["data"]["result"])


def _has_scraped_twice(url: str) -> bool:
    counted = Question("", "min by (job) (sum_over_time(up[10m]))")
    series = _asked(url, counted, counted.expr).series
    return {one["metric"]["job"] for one in series if float(one["value"][1]) >= 2} == JOBS


def _troubles(url: str) -> str:
    active = _get(url, "targets")["activeTargets"]
    return "\n".join(f"{one['scrapeUrl']} {one['health']} {one['lastError']}" for one in active)


def _get(url: str, path: str) -> Any:
    response = httpx.get(f"{url}/api/v1/{path}")
    response.raise_for_status()
    return response.json()["data"]


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s and server.poll() is None:
        if _is_ready(url):
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready").is_success
    except httpx.TransportError:
        return False
