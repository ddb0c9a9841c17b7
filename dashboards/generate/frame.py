"""Dashboards without panels: title, links and variables."""

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
_DEFAULT_MLFLOW_URL = "http://localhost:5500"
"""As a browser reaches MLflow; the user can change it on the dashboard."""


def create_dashboard(name: str, *, description: str, time_from: str) -> Dashboard:
    """Create an empty dashboard with links to the other dashboards and to MLflow."""
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
            .tooltip("Compare runs in MLflow; the variable MLflow URL sets its address.")
            .url("${mlflow}/#/experiments?workflowType=machine_learning")
            .target_blank(True)
        )
    )


def mlflow_url_variable() -> TextBoxVariable:
    """Create the variable that holds the URL of MLflow."""
    return TextBoxVariable("mlflow").label("MLflow URL").default_value(_DEFAULT_MLFLOW_URL)


def id_variable(label: str, *, metric: str) -> QueryVariable:
    """Create a variable to choose a run or sweep by name; its value is the id."""
    query = f"max by ({label}, name) (last_over_time({metric}[$__range]))"
    return (
        QueryVariable(label)
        .label(label.capitalize())
        .datasource(DATASOURCE)
        .query(f"query_result({query})")
        .regex(f'/name="(?<text>[^"]+)|{label}="(?<value>[^"]+)/g')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def build_with_panel_ids(builder: Dashboard) -> models.Dashboard:
    """Build a dashboard whose panels have ids, as Grafana requires."""
    built = builder.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    return built


def dashboard_link(name: str, *, field: str) -> DashboardLink:
    """Create a link from a table row to the dashboard of its run or sweep."""
    row_value = f"${{__data.fields.{field}}}"
    url = f"/d/tandem-{name}?var-{name}={row_value}&${{__url_time_range}}"
    return DashboardLink(f"Open this {name}").url(url)
