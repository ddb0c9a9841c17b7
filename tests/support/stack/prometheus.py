"""A temporary Prometheus, and the queries of dashboards and alerts that it must answer."""

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
"""Ray exports these for nodes with a GPU only: `METRICS_GAUGES` of its reporter_agent.py."""

AFTER_AN_EVENT = {
    "tandem_attempts_ended",  # an attempt that has ended
    "tandem_loop_failures_total",  # a loop step that has failed
    "tandem_sweep_best",  # a trial that has been evaluated
}
"""The service documents these, and exports values after the first such event."""

BUILT_IN = {"ALERTS"}
"""Created by Prometheus itself while an alert is pending or fires."""

MAY_BE_MISSING = frozenset(GPU_ONLY | AFTER_AN_EVENT | BUILT_IN)
"""Metrics in dashboards and alerts that a healthy stack need not export."""

_TIMEOUT_S = 60


@dataclass(frozen=True)
class Targets:
    """Addresses of the scrape jobs of `prometheus.yml`, without `http://`."""

    service: str
    mlflow: str
    ray_nodes: Path
    token: str = "none"


@dataclass(frozen=True)
class PrometheusQuery:
    """The query of a panel, a variable or an alert rule."""

    location: str
    expr: str

    def substitute(self, variables: Mapping[str, str]) -> str:
        """Replace Grafana's variables by their values."""
        expr = self.expr
        for name, value in variables.items():
            expr = expr.replace(f"${name}", value)
        return expr


@dataclass(frozen=True)
class QueryResult:
    """The series of a query, or the error that Prometheus reports."""

    query: PrometheusQuery
    expr: str
    series: list[dict[str, Any]]
    error: str = ""


def find_prometheus() -> tuple[str, str] | None:
    """Find Prometheus and promtool; None where they are not installed."""
    server, tool = shutil.which("prometheus"), shutil.which("promtool")
    return None if server is None or tool is None else (server, tool)


def write_config(targets: Targets, folder: Path, *, interval_s: int = 4) -> Path:
    """Write the repository's configuration with these addresses to an existing folder."""
    config = yaml.safe_load(CONFIG.read_text())
    intervals = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    config["global"] |= dict.fromkeys(intervals, f"{interval_s}s")
    config["rule_files"] = [str(ALERTS.parent / name) for name in config["rule_files"]]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    token = folder / "viewer-token"
    token.write_text(targets.token)
    jobs["tandem"]["authorization"]["credentials_file"] = str(token)
    jobs["tandem"]["static_configs"] = [{"targets": [targets.service]}]
    jobs["mlflow"]["static_configs"] = [{"targets": [targets.mlflow]}]
    del jobs["ray"]["dns_sd_configs"]  # the names of containers
    jobs["ray"]["file_sd_configs"][0]["files"] = [str(targets.ray_nodes)]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def run_prometheus(config: Path, folder: Path) -> Iterator[str]:
    """Run a server with this configuration; yields its URL."""
    programs = find_prometheus()
    assert programs is not None
    address = f"127.0.0.1:{choose_free_port()}"
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                programs[0],
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'series'}",
                f"--web.listen-address={address}",
            ],
            stdout=output,
            stderr=output,
        )
    try:
        _wait_until_ready(f"http://{address}", server, log)
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(timeout=_TIMEOUT_S)


def wait_for_two_scrapes(url: str, *, timeout_s: float = _TIMEOUT_S) -> None:
    """Wait until every job has been scraped successfully twice."""
    deadline_s = time.monotonic() + timeout_s
    while not _has_scraped_twice(url):
        assert time.monotonic() < deadline_s, _describe_targets(url)
        time.sleep(0.5)


def run_queries(url: str, variables: Mapping[str, str]) -> list[QueryResult]:
    """Run the query of every panel, variable and rule."""
    substitutions = {"__rate_interval": "1m", "__range": "1h", **variables}
    return [_run_query(url, query, query.substitute(substitutions)) for query in collect_queries()]


def find_faults(
    url: str, *, variables: Mapping[str, str], may_be_missing: frozenset[str] = frozenset()
) -> list[str]:
    """List queries that fail, and metrics that do not exist except `may_be_missing`."""
    existing = set(_get(url, "label/__name__/values"))
    results = run_queries(url, variables)
    errors = [
        f"{result.query.location}: {result.error} in {result.expr}"
        for result in results
        if result.error
    ]
    missing = [
        f"{result.query.location}: there is no {name}"
        for result in results
        for name in sorted(parse_metric_names(result.expr) - existing - may_be_missing)
    ]
    return errors + missing


def list_documented_metrics(url: str) -> set[str]:
    """List the metrics with a HELP line of any target, even without values."""
    return set(_get(url, "metadata"))


def collect_queries() -> list[PrometheusQuery]:
    """Collect the queries of the repository's dashboards and alerts."""
    return [*_read_dashboard_queries(), *_read_alert_queries()]


def load_dashboards() -> dict[str, dict[str, Any]]:
    """Load the repository's dashboards by file name."""
    paths = sorted((DASHBOARDS / "grafana" / "dashboards").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def load_alert_rules() -> list[dict[str, Any]]:
    """Load the repository's alert rules."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def parse_metric_names(expr: str) -> set[str]:
    """Parse the names of the metrics in a query."""
    stripped = re.sub(r'"(?:[^"\\]|\\.)*"', "", expr)
    stripped = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", stripped)
    stripped = re.sub(
        r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", stripped
    )
    stripped = re.sub(r"\boffset\s+\w+", "", stripped)
    names = set(re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*(?!\w*\s*\()", stripped))
    return names - {"and", "or", "unless", "bool"}


def _read_dashboard_queries() -> Iterator[PrometheusQuery]:
    for name, dashboard in load_dashboards().items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                match = re.fullmatch(r"query_result\((.*)\)", variable["query"])
                assert match is not None
                yield PrometheusQuery(f"{name}, ${variable['name']}", match[1])
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield PrometheusQuery(f"{name}, {panel['title']}", target["expr"])


def _read_alert_queries() -> Iterator[PrometheusQuery]:
    for rule in load_alert_rules():
        yield PrometheusQuery(f"alert {rule['alert']}", rule["expr"])


def _run_query(url: str, query: PrometheusQuery, expr: str) -> QueryResult:
    response = httpx.post(f"{url}/api/v1/query", data={"query": expr})
    body = response.json()
    if body["status"] != "success":
        return QueryResult(query, expr, [], body["error"])
    return QueryResult(query, expr, body["data"]["result"])


def _has_scraped_twice(url: str) -> bool:
    query = PrometheusQuery("", "min by (job) (sum_over_time(up[10m]))")
    series = _run_query(url, query, query.expr).series
    return {sample["metric"]["job"] for sample in series if float(sample["value"][1]) >= 2} == JOBS


def _describe_targets(url: str) -> str:
    active = _get(url, "targets")["activeTargets"]
    return "\n".join(
        f"{target['scrapeUrl']} {target['health']} {target['lastError']}" for target in active
    )


def _get(url: str, path: str) -> Any:
    response = httpx.get(f"{url}/api/v1/{path}")
    response.raise_for_status()
    return response.json()["data"]


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _TIMEOUT_S
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
