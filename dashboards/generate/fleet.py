"""The dashboard of the fleet: health, runs, queue, machines, usage and service."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.stat import Panel as Number
from grafana_foundation_sdk.builders.timeseries import Panel as Lines
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.dashboard import ValueMap, ValueMappingResult

from dashboards.generate import panels
from dashboards.generate.frame import create_dashboard, mlflow_url_variable
from dashboards.generate.panels import BAD, GOOD, WARN, Query, Unit
from dashboards.generate.run_table import build_run_table

_FINISHED = 'state=~"succeeded|failed|cancelled"'
_UNFINISHED = 'state!~"succeeded|failed|cancelled"'


def build_fleet_dashboard() -> Dashboard:
    """Build the dashboard for operators."""
    dashboard = create_dashboard(
        "fleet",
        description="Service, runs, queue, machines and usage.",
        time_from="now-6h",
    ).with_variable(mlflow_url_variable())
    for add in (
        _add_health,
        _add_runs,
        _add_queue,
        _add_machines,
        _add_usage,
        _add_service,
        _add_workers,
    ):
        add(dashboard)
    return dashboard


def _add_health(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Health"))
    dashboard.with_panel(
        _up(
            "Checks of the service",
            "The checks of /readyz; `tandem doctor` shows how to fix what fails.",
            Query("min by (check) (tandem_up)", "{{check}}"),
        )
        .span(10)
        .no_value("the service does not answer")
    )
    dashboard.with_panel(
        _up(
            "Scraped by Prometheus",
            "Down if any process of the job did not answer.",
            Query("min by (job) (up)", "{{job}}"),
        ).span(6)
    )
    dashboard.with_panel(
        panels.instant_stat_panel(
            "Firing alerts",
            "Number of firing instances; the Alerts page of Prometheus shows what to do.",
            Query('count by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}"),
            unit=Unit.COUNT,
        )
        .span(8)
        .no_value("none")
        .thresholds(panels.threshold_steps((1, BAD)))
    )


def _add_runs(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Runs"))
    dashboard.with_panel(
        build_run_table(
            "Active runs",
            "Starting and running; a click opens the run, `tandem show ID` shows more.",
            select=lambda series: series,
        )
    )
    dashboard.with_panel(
        panels.stacked_panel(
            "Unfinished runs",
            "By state, over all projects.",
            Query(_runs_by_state(_UNFINISHED), "{{state}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Finished runs",
            "By state, since the database was created.",
            Query(_runs_by_state(_FINISHED), "{{state}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Ended attempts by reason",
            "Since the database was created; none: succeeded, or stopped on request.",
            Query("max by (reason) (tandem_attempts_ended)", "{{reason}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )


def _add_queue(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Queue"))
    dashboard.with_panel(
        panels.stacked_panel(
            "Queued runs",
            "By project; `tandem show ID` shows a run's queue position and what it waits for.",
            Query("max by (project) (tandem_queue_depth)", "{{project}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Longest wait",
            "Waiting time of the oldest queued run, by project.",
            Query("max by (project) (tandem_queue_oldest_seconds)", "{{project}}"),
            unit=Unit.SECONDS,
        )
        .span(panels.THIRD)
        .thresholds(panels.threshold_steps((3600, WARN)))
        .thresholds_style(panels.dashed_thresholds())
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Preemptions and takeovers",
            "Runs preempted for others, and runs taken over from another service process.",
            Query("sum(increase(tandem_preemptions_total[$__rate_interval]))", "preempted"),
            Query("sum(increase(tandem_leases_taken_over_total[$__rate_interval]))", "taken over"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )


def _add_machines(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Machines"))
    dashboard.with_panel(_reserved("CPU", "CPU cores reserved by runs"))
    dashboard.with_panel(_reserved("GPU", "GPUs reserved by runs"))
    dashboard.with_panel(
        _share_panel(
            "CPU use", "Share of all cores, by node.", "ray_node_cpu_utilization / 100", by="ip"
        )
    )
    dashboard.with_panel(
        _share_panel(
            "GPU use",
            "Share of time in which a kernel ran, by node and GPU.",
            "ray_node_gpus_utilization / 100",
            by="ip, GpuIndex",
        )
    )
    dashboard.with_panel(
        _share_panel(
            "GPU memory",
            "Share in use, by node and GPU.",
            "ray_node_gram_used / (ray_node_gram_used + ray_node_gram_available)",
            by="ip, GpuIndex",
        )
    )
    dashboard.with_panel(
        _share_panel(
            "Memory",
            "Share in use, by node.",
            "ray_node_mem_used / ray_node_mem_total",
            by="ip",
        )
    )
    dashboard.with_panel(
        _share_panel(
            "Disk of Ray",
            "Share in use of the disk with Ray's session folder.",
            "ray_node_disk_utilization_percentage / 100",
            by="ip",
        ).thresholds(panels.threshold_steps((0.9, BAD)))
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Disk of the runs",
            "Free and total space of the disk with checkpoints, spools and logs.",
            Query("min(tandem_disk_free_bytes)", "free"),
            Query("min(tandem_disk_size_bytes)", "size"),
            unit=Unit.BYTES,
        )
    )


def _add_usage(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Usage in the selected time range"))
    for title, metric in (
        ("GPU hours by project", "tandem_gpu_seconds"),
        ("CPU core hours by project", "tandem_cpu_seconds"),
    ):
        increase = f"max_over_time({metric}[$__range]) - min_over_time({metric}[$__range])"
        dashboard.with_panel(
            panels.bar_gauge_panel(
                title,
                "Reserved by attempts, whether used or not.",
                Query(f"max by (project) ({increase}) / 3600", "{{project}}"),
                unit=Unit.HOURS,
            )
        )


def _add_service(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Service"))
    _add_requests(dashboard)
    dashboard.with_panel(
        panels.time_series_panel(
            "Loop lag",
            "Time since a loop's last completed iteration; the service is unready above a minute.",
            Query("max by (loop) (tandem_loop_lag_seconds)", "{{loop}}"),
            unit=Unit.SECONDS,
        )
        .thresholds(panels.threshold_steps((60, BAD)))
        .thresholds_style(panels.dashed_thresholds())
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Failed loop iterations",
            "The service's log has the errors.",
            Query(
                "sum by (loop) (increase(tandem_loop_failures_total[$__rate_interval]))", "{{loop}}"
            ),
            unit=Unit.COUNT,
        )
    )


def _add_workers(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Workers"))
    dashboard.with_panel(
        panels.time_series_panel(
            "Deliveries of workers",
            "Deliveries include heartbeats; records count only new ones.",
            Query("sum(rate(tandem_deliveries_total[$__rate_interval]))", "deliveries"),
            Query("sum(rate(tandem_records_total[$__rate_interval]))", "records"),
            unit=Unit.PER_SECOND,
        ).span(panels.QUARTER)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Spool backlog",
            "Records that a worker has written, but not delivered to a destination yet.",
            Query(
                "max by (name, destination) (tandem_run_pending_records)",
                "{{name}}: {{destination}}",
            ),
            unit=Unit.COUNT,
        ).span(panels.QUARTER)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Oldest heartbeat",
            "Of all workers that train; after 5 minutes a run is stopped as stalled.",
            Query("max(tandem_heartbeat_age_seconds)", "heartbeat age"),
            unit=Unit.SECONDS,
        )
        .span(panels.QUARTER)
        .thresholds(panels.threshold_steps((120, WARN), (300, BAD)))
        .thresholds_style(panels.dashed_thresholds())
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Runs with problems",
            "No heartbeat for a minute, or finished but not synced to MLflow.",
            Query("max(tandem_stale_heartbeat_runs)", "stale heartbeat"),
            Query("max(tandem_mlflow_unsynced_runs)", "not synced"),
            unit=Unit.COUNT,
        ).span(panels.QUARTER)
    )


def _add_requests(dashboard: Dashboard) -> None:
    dashboard.with_panel(
        panels.stacked_panel(
            "Requests to the service",
            "By HTTP status; 5xx are faults of the service.",
            Query(
                "sum by (status) (rate(tandem_http_requests_total[$__rate_interval]))", "{{status}}"
            ),
            unit=Unit.REQUESTS,
        ).span(panels.THIRD)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Response time",
            "Of the service, over all endpoints.",
            Query(_quantile(0.5, "tandem_http_request_seconds"), "median"),
            Query(_quantile(0.95, "tandem_http_request_seconds"), "95th percentile"),
            unit=Unit.SECONDS,
        ).span(panels.THIRD)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Response time of MLflow",
            "Workers and the service wait for it; training does not.",
            Query(_quantile(0.5, "mlflow_http_request_duration_seconds"), "median"),
            Query(_quantile(0.95, "mlflow_http_request_duration_seconds"), "95th percentile"),
            unit=Unit.SECONDS,
        ).span(panels.THIRD)
    )


def _up(title: str, description: str, query: Query) -> Number:
    states = {
        "0": ValueMappingResult(text="down", color=BAD),
        "1": ValueMappingResult(text="up", color=GOOD),
    }
    return (
        panels.instant_stat_panel(title, description, query, unit=Unit.NUMBER)
        .mappings([ValueMap(options=states)])
        .color_mode(BigValueColorMode.BACKGROUND)
    )


def _reserved(resource: str, title: str) -> Lines:
    return panels.stacked_panel(
        title,
        "Ray's logical resources: USED ones are reserved by runs.",
        Query(f'sum by (State) (ray_resources{{Name="{resource}"}})', "{{State}}"),
        unit=Unit.COUNT,
    )


def _share_panel(title: str, description: str, expr: str, *, by: str) -> Lines:
    legend = " GPU ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    query = Query(f"max by ({by}) ({expr})", legend)
    return panels.time_series_panel(title, description, query, unit=Unit.SHARE).max(1)


def _runs_by_state(matcher: str) -> str:
    # Every service process exports the same values.
    return f"sum by (state) (max by (state, project) (tandem_runs{{{matcher}}}))"


def _quantile(quantile: float, histogram: str) -> str:
    rates = f"sum by (le) (rate({histogram}_bucket[$__rate_interval]))"
    return f"histogram_quantile({quantile}, {rates})"
