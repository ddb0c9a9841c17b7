"""What is around the panels: address, links between dashboards, what a reader can choose."""

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    QueryVariable,
    TextBoxVariable,
)
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableRefresh,
    VariableSort,
)

from dashboards.generate.panels import DATASOURCE

_TAG = "tandem"
_MLFLOW = "http://localhost:5500"
"""Where a browser finds MLflow, until the reader says another place."""


def create_dashboard(name: str, *, description: str, time_from: str) -> Dashboard:
    """An empty one, with links to the others and to MLflow."""
    return (
        Dashboard(f"Tandem {name}")
        .uid(f"tandem-{name}")
        .description(description)
        .tags([_TAG])
        .time(time_from, "now")
        .refresh("15s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
        .link(
            DashboardLink("MLflow")
            .type(DashboardLinkType.LINK)
            .icon("external link")
            .tooltip("Where runs are compared; the address can be changed on this page.")
            .url("${mlflow}")
            .target_blank(True)
        )
    )


def mlflow_url_variable() -> TextBoxVariable:
    """Where the link to MLflow leads."""
    return TextBoxVariable("mlflow").label("MLflow at").default_value(_MLFLOW)


def id_variable(label: str, *, metric: str) -> QueryVariable:
    """One run or sweep of the time shown: the reader sees names, the queries get its id."""
    seen = f"max by ({label}, name) (last_over_time({metric}[$__range]))"
    return (
        QueryVariable(label)
        .label(label.capitalize())
        .datasource(DATASOURCE)
        .query(f"query_result({seen})")
        .regex(f'/name="(?<text>[^"]+)|{label}="(?<value>[^"]+)/g')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def build_with_panel_ids(made: Dashboard) -> models.Dashboard:
    """The dashboard with an id for each panel, as Grafana wants it."""
    whole = made.build()
    for number, panel in enumerate(whole.panels or [], start=1):
        panel.id_val = number
    return whole


def dashboard_link(name: str, *, field: str) -> DashboardLink:
    """From a row of a table to the dashboard of what it is about."""
    shown = f"${{__data.fields.{field}}}"
    url = f"/d/tandem-{name}?var-{name}={shown}&${{__url_time_range}}"
    return DashboardLink(f"Open this {name}").url(url)
