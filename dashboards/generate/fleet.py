"""Is everything up, who trains, who waits, what is free, and what does it cost?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.stat import Panel as Number
from grafana_foundation_sdk.builders.timeseries import Panel as Lines
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.dashboard import ValueMap, ValueMappingResult

from dashboards.generate import panels
from dashboards.generate.frame import create_dashboard, mlflow_url_variable
from dashboards.generate.panels import BAD, GOOD, WARN, Query, Unit
from dashboards.generate.run_table import build_run_table

_OVER = 'state=~"succeeded|failed|cancelled"'
_NOT_OVER = 'state!~"succeeded|failed|cancelled"'


def build_fleet_dashboard() -> Dashboard:
    """The dashboard of whoever looks after the machines."""
    made = create_dashboard(
        "fleet",
        description="Service, runs, queue, machines and what was spent.",
        time_from="now-6h",
    ).with_variable(mlflow_url_variable())
    for add in (_health, _runs, _queue, _machines, _spent, _service, _workers):
        add(made)
    return made


def _health(made: Dashboard) -> None:
    made.with_row(Row("Is everything up?"))
    made.with_panel(
        _up(
            "What the service needs",
            "Each as /readyz says; `tandem doctor` tells what to do.",
            Query("min by (what) (tandem_up)", "{{what}}"),
        )
        .span(10)
        .no_value("the service does not answer")
    )
    made.with_panel(
        _up(
            "Scraped by Prometheus",
            "Down if any process of the kind did not answer.",
            Query("min by (job) (up)", "{{job}}"),
        ).span(6)
    )
    made.with_panel(
        panels.instant_stat_panel(
            "Alerts that fire",
            "How often each does; what to do says Prometheus, on its page Alerts.",
            Query('count by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}"),
            unit=Unit.COUNT,
        )
        .span(8)
        .no_value("none")
        .thresholds(panels.threshold_steps((1, BAD)))
    )


def _runs(made: Dashboard) -> None:
    made.with_row(Row("Runs"))
    made.with_panel(
        build_run_table(
            "Runs under way",
            "Starting and running ones; a click opens the run, `tandem show ID` says more.",
            select=lambda series: series,
        )
    )
    made.with_panel(
        panels.stacked_panel(
            "Runs that are not over",
            "By state, all projects together.",
            Query(_runs_by_state(_NOT_OVER), "{{state}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )
    made.with_panel(
        panels.time_series_panel(
            "Runs that are over",
            "How many there are of each end, since the beginning.",
            Query(_runs_by_state(_OVER), "{{state}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )
    made.with_panel(
        panels.time_series_panel(
            "Attempts' ends by cause",
            "Since the beginning; none: well, or as somebody asked.",
            Query("max by (reason) (tandem_attempts_ended)", "{{reason}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )


def _queue(made: Dashboard) -> None:
    made.with_row(Row("Queue"))
    made.with_panel(
        panels.stacked_panel(
            "Runs that wait",
            "By project; `tandem show ID` says a run's place and why it waits.",
            Query("max by (project) (tandem_queue_depth)", "{{project}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )
    made.with_panel(
        panels.time_series_panel(
            "Longest wait",
            "Of the run that has waited longest, by project.",
            Query("max by (project) (tandem_queue_oldest_seconds)", "{{project}}"),
            unit=Unit.SECONDS,
        )
        .span(panels.THIRD)
        .thresholds(panels.threshold_steps((3600, WARN)))
        .thresholds_style(panels.dashed_thresholds())
    )
    made.with_panel(
        panels.time_series_panel(
            "Runs that changed hands",
            "Asked to make room for others, or taken over from another service process.",
            Query("sum(increase(tandem_preemptions_total[$__rate_interval]))", "made room"),
            Query("sum(increase(tandem_leases_taken_over_total[$__rate_interval]))", "taken over"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )


def _machines(made: Dashboard) -> None:
    made.with_row(Row("Machines"))
    made.with_panel(_given("CPU", "CPU cores given to runs"))
    made.with_panel(_given("GPU", "GPUs given to runs"))
    made.with_panel(
        _share("CPU use", "Of all cores of a node.", "ray_node_cpu_utilization / 100", by="ip")
    )
    made.with_panel(
        _share(
            "GPU use",
            "Time in which a GPU computed anything, by node and GPU.",
            "ray_node_gpus_utilization / 100",
            by="ip, GpuIndex",
        )
    )
    made.with_panel(
        _share(
            "GPU memory",
            "In use, by node and GPU.",
            "ray_node_gram_used / (ray_node_gram_used + ray_node_gram_available)",
            by="ip, GpuIndex",
        )
    )
    made.with_panel(
        _share(
            "Memory",
            "In use on each node.",
            "ray_node_mem_used / ray_node_mem_total",
            by="ip",
        )
    )
    made.with_panel(
        _share(
            "Disk of Ray",
            "In use where Ray works.",
            "ray_node_disk_utilization_percentage / 100",
            by="ip",
        ).thresholds(panels.threshold_steps((0.9, BAD)))
    )
    made.with_panel(
        panels.time_series_panel(
            "Disk of the runs",
            "What is free, and all there is, where runs keep checkpoints, spools and logs.",
            Query("min(tandem_disk_free_bytes)", "free"),
            Query("min(tandem_disk_size_bytes)", "size"),
            unit=Unit.BYTES,
        )
    )


def _spent(made: Dashboard) -> None:
    made.with_row(Row("Spent in the time shown"))
    for title, metric in (
        ("GPU hours by project", "tandem_gpu_seconds"),
        ("CPU core hours by project", "tandem_cpu_seconds"),
    ):
        grown = f"max_over_time({metric}[$__range]) - min_over_time({metric}[$__range])"
        made.with_panel(
            panels.bar_gauge_panel(
                title,
                "What attempts had for themselves, used or not.",
                Query(f"max by (project) ({grown}) / 3600", "{{project}}"),
                unit=Unit.HOURS,
            )
        )


def _service(made: Dashboard) -> None:
    made.with_row(Row("Service"))
    _requests(made)
    made.with_panel(
        panels.time_series_panel(
            "Loop lag",
            "Since a loop's last whole turn; above a minute the service calls itself unready.",
            Query("max by (loop) (tandem_loop_lag_seconds)", "{{loop}}"),
            unit=Unit.SECONDS,
        )
        .thresholds(panels.threshold_steps((60, BAD)))
        .thresholds_style(panels.dashed_thresholds())
    )
    made.with_panel(
        panels.time_series_panel(
            "Turns of loops that failed",
            "The service's log says why.",
            Query(
                "sum by (loop) (increase(tandem_loop_failures_total[$__rate_interval]))", "{{loop}}"
            ),
            unit=Unit.COUNT,
        )
    )


def _workers(made: Dashboard) -> None:
    made.with_row(Row("What workers say"))
    made.with_panel(
        panels.time_series_panel(
            "Deliveries of workers",
            "Heartbeats count as deliveries, records are what was new in them.",
            Query("sum(rate(tandem_deliveries_total[$__rate_interval]))", "deliveries"),
            Query("sum(rate(tandem_records_total[$__rate_interval]))", "records"),
            unit=Unit.PER_SECOND,
        ).span(panels.QUARTER)
    )
    made.with_panel(
        panels.time_series_panel(
            "Spool backlog",
            "Records that a worker has written, and a place does not have yet.",
            Query("max by (name, place) (tandem_run_pending_records)", "{{name}}: {{place}}"),
            unit=Unit.COUNT,
        ).span(panels.QUARTER)
    )
    made.with_panel(
        panels.time_series_panel(
            "Longest silence",
            "Of a worker that trains; after 5 minutes its run is stopped as stalled.",
            Query("max(tandem_heartbeat_age_seconds)", "silence"),
            unit=Unit.SECONDS,
        )
        .span(panels.QUARTER)
        .thresholds(panels.threshold_steps((120, WARN), (300, BAD)))
        .thresholds_style(panels.dashed_thresholds())
    )
    made.with_panel(
        panels.time_series_panel(
            "Runs that are not as they should be",
            "Not heard for a minute, or over but not for MLflow.",
            Query("max(tandem_stale_heartbeat_runs)", "silent"),
            Query("max(tandem_mlflow_unsynced_runs)", "unsettled"),
            unit=Unit.COUNT,
        ).span(panels.QUARTER)
    )


def _requests(made: Dashboard) -> None:
    made.with_panel(
        panels.stacked_panel(
            "Requests to the service",
            "By HTTP status; 5xx are faults of ours.",
            Query(
                "sum by (status) (rate(tandem_http_requests_total[$__rate_interval]))", "{{status}}"
            ),
            unit=Unit.REQUESTS,
        ).span(panels.THIRD)
    )
    made.with_panel(
        panels.time_series_panel(
            "Time to answer",
            "Of the service, over all endpoints.",
            Query(_quantile(0.5, "tandem_http_request_seconds"), "half within"),
            Query(_quantile(0.95, "tandem_http_request_seconds"), "95 % within"),
            unit=Unit.SECONDS,
        ).span(panels.THIRD)
    )
    made.with_panel(
        panels.time_series_panel(
            "Time of MLflow to answer",
            "What workers and the service wait for; training does not.",
            Query(_quantile(0.5, "mlflow_http_request_duration_seconds"), "half within"),
            Query(_quantile(0.95, "mlflow_http_request_duration_seconds"), "95 % within"),
            unit=Unit.SECONDS,
        ).span(panels.THIRD)
    )


def _up(title: str, description: str, query: Query) -> Number:
    words = {
        "0": ValueMappingResult(text="down", color=BAD),
        "1": ValueMappingResult(text="up", color=GOOD),
    }
    return (
        panels.instant_stat_panel(title, description, query, unit=Unit.NUMBER)
        .mappings([ValueMap(options=words)])
        .color_mode(BigValueColorMode.BACKGROUND)
    )


def _given(resource: str, title: str) -> Lines:
    return panels.stacked_panel(
        title,
        "Ray's reservations: used ones are those of runs.",
        Query(f'sum by (State) (ray_resources{{Name="{resource}"}})', "{{State}}"),
        unit=Unit.COUNT,
    )


def _share(title: str, description: str, expr: str, *, by: str) -> Lines:
    legend = " GPU ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    query = Query(f"max by ({by}) ({expr})", legend)
    return panels.time_series_panel(title, description, query, unit=Unit.SHARE).max(1)


def _runs_by_state(matcher: str) -> str:
    # Each service process tells the same of the database.
    return f"sum by (state) (max by (state, project) (tandem_runs{{{matcher}}}))"


def _quantile(share: float, histogram: str) -> str:
    counted = f"sum by (le) (rate({histogram}_bucket[$__rate_interval]))"
    return f"histogram_quantile({share}, {counted})"
