"""A table of active runs."""

from collections.abc import Callable
from dataclasses import replace

from grafana_foundation_sdk.builders.table import Panel

from dashboards.generate import panels
from dashboards.generate.frame import dashboard_link
from dashboards.generate.panels import MetricColumn, Unit


def build_run_table(title: str, description: str, *, select: Callable[[str], str]) -> Panel:
    """Build a table with a row per run; a click opens the run's dashboard.

    `select` restricts a PromQL expression to the runs of the table.
    """
    table = panels.MetricTable(
        title=title,
        description=description,
        labels={"name": "Run", "run": "ID", "project": "Project"},
        columns=[_aggregate(column, select) for column in _COLUMNS],
        sort_by="Progress",
    )
    return panels.table_panel(table).data_links([dashboard_link("run", field="ID")])


_COLUMNS = (
    MetricColumn("Progress", "tandem_run_progress_ratio", Unit.SHARE, is_gauge=True),
    MetricColumn("Time left", "tandem_run_seconds_left", Unit.SECONDS),
    MetricColumn("Images/s", "tandem_run_images_per_second", Unit.NUMBER),
    MetricColumn("Student's mAP", 'tandem_run_map{part="bbox_mAP", model="student"}', Unit.SHARE),
    MetricColumn("Teacher's mAP", 'tandem_run_map{part="bbox_mAP", model="teacher"}', Unit.SHARE),
    MetricColumn("Heartbeat age", "tandem_run_heartbeat_age_seconds", Unit.SECONDS),
    MetricColumn("Attempt", "tandem_run_attempts", Unit.NUMBER),
)


def _aggregate(column: MetricColumn, select: Callable[[str], str]) -> MetricColumn:
    # Grafana merges rows by their labels, so all columns need the same ones.
    return replace(column, expr=f"max by (run, name, project) ({select(column.expr)})")
