"""A table of runs under way, for whichever of them."""

from collections.abc import Callable
from dataclasses import replace

from grafana_foundation_sdk.builders.table import Panel

from dashboards.generate import panels
from dashboards.generate.frame import dashboard_link
from dashboards.generate.panels import MetricColumn, Unit


def build_run_table(title: str, description: str, *, select: Callable[[str], str]) -> Panel:
    """A row for each run that `chosen` leaves of a series; a click opens its dashboard."""
    asked = panels.MetricTable(
        title=title,
        description=description,
        labels={"name": "Run", "run": "ID", "project": "Project"},
        columns=[_of(column, chosen=select) for column in _COLUMNS],
        sort_by="Progress",
    )
    return panels.table_panel(asked).data_links([dashboard_link("run", field="ID")])


_COLUMNS = (
    MetricColumn("Progress", "tandem_run_progress_ratio", Unit.SHARE, is_gauge=True),
    MetricColumn("Time left", "tandem_run_seconds_left", Unit.SECONDS),
    MetricColumn("Images/s", "tandem_run_images_per_second", Unit.NUMBER),
    MetricColumn("Student's mAP", 'tandem_run_map{part="bbox_mAP", whose="student"}', Unit.SHARE),
    MetricColumn("Teacher's mAP", 'tandem_run_map{part="bbox_mAP", whose="teacher"}', Unit.SHARE),
    MetricColumn("Silence", "tandem_run_heartbeat_age_seconds", Unit.SECONDS),
    MetricColumn("Attempt", "tandem_run_attempts", Unit.NUMBER),
)


def _of(column: MetricColumn, *, chosen: Callable[[str], str]) -> MetricColumn:
    # Rows meet by their labels, so all columns have the same three.
    return replace(column, expr=f"max by (run, name, project) ({chosen(column.expr)})")
