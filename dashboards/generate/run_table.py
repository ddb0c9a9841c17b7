"""A table of runs under way, for whichever of them."""

from collections.abc import Callable
from dataclasses import replace

from grafana_foundation_sdk.builders.table import Panel

from dashboards.generate import panels
from dashboards.generate.frame import link_to
from dashboards.generate.panels import Column, Unit


def run_table(title: str, description: str, *, chosen: Callable[[str], str]) -> Panel:
    """A row for each run that `chosen` leaves of a series; a click opens its dashboard."""
    asked = panels.Table(
        title=title,
        description=description,
        labels={"name": "Run", "run": "ID", "project": "Project"},
        columns=[_of(column, chosen=chosen) for column in _COLUMNS],
        sort_by="Progress",
    )
    return panels.table(asked).data_links([link_to("run", field="ID")])


_COLUMNS = (
    Column("Progress", "tandem_run_progress_ratio", Unit.SHARE, is_gauge=True),
    Column("Time left", "tandem_run_seconds_left", Unit.SECONDS),
    Column("Images/s", "tandem_run_images_per_second", Unit.NUMBER),
    Column("Student's mAP", 'tandem_run_map{part="bbox_mAP", whose="student"}', Unit.SHARE),
    Column("Teacher's mAP", 'tandem_run_map{part="bbox_mAP", whose="teacher"}', Unit.SHARE),
    Column("Silence", "tandem_run_silence_seconds", Unit.SECONDS),
    Column("Attempt", "tandem_run_attempts", Unit.NUMBER),
)


def _of(column: Column, *, chosen: Callable[[str], str]) -> Column:
    # Rows meet by their labels, so all columns have the same three.
    return replace(column, expr=f"max by (run, name, project) ({chosen(column.expr)})")
