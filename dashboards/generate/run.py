"""How far is a run, does it learn, and is anything between it and the service?"""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.common import BigValueGraphMode

from dashboards.generate import panels
from dashboards.generate.frame import create_dashboard, id_variable, mlflow_url_variable
from dashboards.generate.panels import BAD, WARN, Query, Unit


def build_run_dashboard() -> Dashboard:
    """The dashboard of whoever waits for a run."""
    made = create_dashboard(
        "run",
        description="One run while it trains; MLflow keeps its numbers afterwards.",
        time_from="now-3h",
    )
    made.with_variable(id_variable("run", metric="tandem_run_attempts"))
    made.with_variable(mlflow_url_variable())
    for add in (_at_a_glance, _learning, _course):
        add(made)
    return made


def _at_a_glance(made: Dashboard) -> None:
    made.with_row(Row("At a glance"))
    made.with_panel(
        panels.stat_panel(
            "Progress",
            "Share of the training steps that are done.",
            Query(_of("tandem_run_progress_ratio"), "progress"),
            unit=Unit.SHARE,
        )
    )
    made.with_panel(
        panels.stat_panel(
            "Time left",
            "As the worker estimates it, from its last steps.",
            Query(_of("tandem_run_seconds_left"), "left"),
            unit=Unit.SECONDS,
        )
    )
    made.with_panel(
        panels.stat_panel(
            "Student's mAP",
            "Of the last evaluation.",
            Query(_map("student"), "student"),
            unit=Unit.SHARE,
        ).decimals(1)
    )
    made.with_panel(
        panels.stat_panel(
            "Behind its teacher",
            "By how much the student's mAP is lower; negative if it is higher.",
            Query(f"{_map('teacher')} - {_map('student')}", "behind"),
            unit=Unit.SHARE,
        ).decimals(1)
    )
    made.with_panel(
        panels.stat_panel(
            "Silence",
            "Since its worker was last heard; `tandem logs ID` shows what it does.",
            Query(_of("tandem_run_heartbeat_age_seconds"), "silence"),
            unit=Unit.SECONDS,
        ).thresholds(panels.threshold_steps((60, WARN), (300, BAD)))
    )
    made.with_panel(
        panels.stat_panel(
            "Attempt",
            "The how manyth; `tandem show ID` says how the others ended.",
            Query(_of("tandem_run_attempts"), "attempt"),
            unit=Unit.COUNT,
        ).graph_mode(BigValueGraphMode.NONE)
    )


def _learning(made: Dashboard) -> None:
    made.with_row(Row("Does it learn?"))
    made.with_panel(
        panels.time_series_panel(
            "mAP of student and teacher",
            "On the same validation images; the teacher was measured before the first step.",
            Query(_map("student"), "student"),
            Query(_map("teacher"), "teacher"),
            unit=Unit.SHARE,
        ).override_by_name("teacher", panels.dashed_line())
    )
    made.with_panel(
        panels.time_series_panel(
            "Loss by term",
            "The whole loss, and its parts with their weights.",
            Query(_of("tandem_run_loss", by="term"), "{{term}}"),
            unit=Unit.NUMBER,
        )
    )
    made.with_panel(
        panels.time_series_panel(
            "Student's mAP in parts",
            "At two overlaps, and of small, middle and large objects where there are any.",
            Query(_parts("student"), "{{part}}"),
            unit=Unit.SHARE,
        )
    )
    made.with_panel(
        panels.time_series_panel(
            "Behind its teacher, in parts",
            "Teacher's minus student's mAP: what is large is what it has not learned yet.",
            Query(f"{_parts('teacher')} - {_parts('student')}", "{{part}}"),
            unit=Unit.SHARE,
        )
    )


def _course(made: Dashboard) -> None:
    made.with_row(Row("Its course"))
    made.with_panel(
        panels.time_series_panel(
            "Progress over time",
            "A flat piece is a pause, a stall or a repeated part.",
            Query(_of("tandem_run_progress_ratio"), "progress"),
            unit=Unit.SHARE,
        )
        .max(1)
        .span(panels.THIRD)
    )
    made.with_panel(
        panels.time_series_panel(
            "Images per second",
            "In training, evaluations left out.",
            Query(_of("tandem_run_images_per_second"), "images/s"),
            unit=Unit.PER_SECOND,
        ).span(panels.THIRD)
    )
    made.with_panel(
        panels.time_series_panel(
            "Records that a place lacks",
            "Written by the worker, and not yet with the service or with MLflow.",
            Query(_of("tandem_run_pending_records", by="place"), "{{place}}"),
            unit=Unit.COUNT,
        ).span(panels.THIRD)
    )


def _map(whose: str) -> str:
    return _of("tandem_run_map", f'part="bbox_mAP", whose="{whose}"')


def _parts(whose: str) -> str:
    return _of("tandem_run_map", f'whose="{whose}"', by="part")


def _of(metric: str, *matchers: str, by: str = "run") -> str:
    inside = ", ".join(('run="$run"', *matchers))
    return f"max by ({by}) ({metric}{{{inside}}})"
