"""The dashboard of one run: progress, training, and delivery of its records."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.common import BigValueGraphMode

from dashboards.generate import panels
from dashboards.generate.frame import create_dashboard, id_variable, mlflow_url_variable
from dashboards.generate.panels import BAD, WARN, Query, Unit


def build_run_dashboard() -> Dashboard:
    """Build the dashboard of a run that is chosen by a variable."""
    dashboard = create_dashboard(
        "run",
        description="One run while it trains; its metrics remain in MLflow.",
        time_from="now-3h",
    )
    dashboard.with_variable(id_variable("run", metric="tandem_run_attempts"))
    dashboard.with_variable(mlflow_url_variable())
    for add in (_add_overview, _add_training, _add_history):
        add(dashboard)
    return dashboard


def _add_overview(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Overview"))
    dashboard.with_panel(
        panels.stat_panel(
            "Progress",
            "Share of the training steps that are completed.",
            Query(_of_run("tandem_run_progress_ratio"), "progress"),
            unit=Unit.SHARE,
        )
    )
    dashboard.with_panel(
        panels.stat_panel(
            "Time left",
            "The worker's estimate from its last steps.",
            Query(_of_run("tandem_run_seconds_left"), "left"),
            unit=Unit.SECONDS,
        )
    )
    dashboard.with_panel(
        panels.stat_panel(
            "Student's mAP",
            "mAP of the last evaluation.",
            Query(_map("student"), "student"),
            unit=Unit.SHARE,
        ).decimals(1)
    )
    dashboard.with_panel(
        panels.stat_panel(
            "Gap to the teacher",
            "The teacher's minus the student's mAP.",
            Query(f"{_map('teacher')} - {_map('student')}", "gap"),
            unit=Unit.SHARE,
        ).decimals(1)
    )
    dashboard.with_panel(
        panels.stat_panel(
            "Heartbeat age",
            "Time since the worker's last delivery; `tandem logs ID` shows its log.",
            Query(_of_run("tandem_run_heartbeat_age_seconds"), "heartbeat age"),
            unit=Unit.SECONDS,
        ).thresholds(panels.threshold_steps((60, WARN), (300, BAD)))
    )
    dashboard.with_panel(
        panels.stat_panel(
            "Attempt",
            "Number of the current attempt; `tandem show ID` shows how the others ended.",
            Query(_of_run("tandem_run_attempts"), "attempt"),
            unit=Unit.COUNT,
        ).graph_mode(BigValueGraphMode.NONE)
    )


def _add_training(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Training"))
    dashboard.with_panel(
        panels.time_series_panel(
            "mAP of student and teacher",
            "On the same validation images; the teacher is evaluated before the first step.",
            Query(_map("student"), "student"),
            Query(_map("teacher"), "teacher"),
            unit=Unit.SHARE,
        ).override_by_name("teacher", panels.dashed_line())
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Loss by term",
            "The total loss, and its weighted terms.",
            Query(_of_run("tandem_run_loss", by="term"), "{{term}}"),
            unit=Unit.NUMBER,
        )
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Student's mAP by variant",
            "At two IoU thresholds, and for small, medium and large objects if there are any.",
            Query(_map_by_part("student"), "{{part}}"),
            unit=Unit.SHARE,
        )
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Gap to the teacher by variant",
            "The teacher's minus the student's mAP.",
            Query(f"{_map_by_part('teacher')} - {_map_by_part('student')}", "{{part}}"),
            unit=Unit.SHARE,
        )
    )


def _add_history(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("History"))
    dashboard.with_panel(
        panels.time_series_panel(
            "Progress over time",
            "Flat where the run is paused, stalled, or repeats steps after a restart.",
            Query(_of_run("tandem_run_progress_ratio"), "progress"),
            unit=Unit.SHARE,
        )
        .max(1)
        .span(panels.THIRD)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Images per second",
            "During training, without evaluations.",
            Query(_of_run("tandem_run_images_per_second"), "images/s"),
            unit=Unit.PER_SECOND,
        ).span(panels.THIRD)
    )
    dashboard.with_panel(
        panels.time_series_panel(
            "Pending records",
            "Written by the worker, but not delivered to the service or to MLflow yet.",
            Query(_of_run("tandem_run_pending_records", by="destination"), "{{destination}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )


def _map(model: str) -> str:
    return _of_run("tandem_run_map", f'part="bbox_mAP", model="{model}"')


def _map_by_part(model: str) -> str:
    return _of_run("tandem_run_map", f'model="{model}"', by="part")


def _of_run(metric: str, *matchers: str, by: str = "run") -> str:
    labels = ", ".join(('run="$run"', *matchers))
    return f"max by ({by}) ({metric}{{{labels}}})"
