"""Builders of panels: one function per kind, so that panels of a kind look alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LineStyle,
    SortOrder,
    StackingMode,
    TableBarGaugeCellOptions,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

_T = TypeVar("_T")

DATASOURCE = DataSourceRef(type_val="prometheus", uid="tandem-prometheus")
"""The data source that `grafana/provisioning/datasources` declares."""

FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4
"""Widths of panels in grid columns; a dashboard has 24."""

TALL, SHORT = 8, 4
"""Heights of a time series panel and of a stat panel."""

GOOD, WARN, BAD = "green", "orange", "red"


class Unit(StrEnum):
    """Units of a panel's values, by Grafana's ids."""

    COUNT = "short"
    NUMBER = "none"
    SECONDS = "s"
    HOURS = "h"
    SHARE = "percentunit"
    PERCENT = "percent"
    BYTES = "bytes"
    PER_SECOND = "cps"
    REQUESTS = "reqps"


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and the legend of its series."""

    expr: str
    legend: str


@dataclass(frozen=True)
class MetricColumn:
    """A column of a table, with a value per row."""

    title: str
    expr: str
    unit: Unit
    is_gauge: bool = False
    """Whether values from 0 to 1 are drawn as bars."""


@dataclass(frozen=True)
class MetricTable:
    """A table with a row per combination of labels, and a column per label and query."""

    title: str
    description: str
    labels: dict[str, str]
    """Title of the column of each label."""

    columns: Sequence[MetricColumn] = field(default_factory=tuple)
    sort_by: str = ""


def time_series_panel(
    title: str, description: str, *queries: Query, unit: Unit
) -> timeseries.Panel:
    """Create a panel with a line per series."""
    return (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_range_queries(queries))
        .unit(unit)
        .axis_soft_min(0)
        .span(HALF)
        .height(TALL)
        .line_width(2)
        .fill_opacity(8)
        .show_points(VisibilityMode.NEVER)
        .legend(_table_legend())
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )


def stacked_panel(title: str, description: str, *queries: Query, unit: Unit) -> timeseries.Panel:
    """Create a panel with stacked series."""
    stacking = common.StackingConfig().mode(StackingMode.NORMAL).group("A")
    return (
        time_series_panel(title, description, *queries, unit=unit)
        .stacking(stacking)
        .fill_opacity(30)
    )


def stat_panel(title: str, description: str, *queries: Query, unit: Unit) -> stat.Panel:
    """Create a panel with the last value and a sparkline."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_range_queries(queries))
        .unit(unit)
        .span(SIXTH)
        .height(SHORT)
        .graph_mode(BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.VALUE)
        .reduce_options(_reduce_to_last())
        .thresholds(threshold_steps())
    )


def instant_stat_panel(title: str, description: str, *queries: Query, unit: Unit) -> stat.Panel:
    """Create a panel with the present value only, so that a missing series shows no old value."""
    return (
        stat_panel(title, description, *queries, unit=unit)
        .targets(_instant_queries(queries))
        .graph_mode(BigValueGraphMode.NONE)
    )


def bar_gauge_panel(title: str, description: str, *queries: Query, unit: Unit) -> bargauge.Panel:
    """Create a panel with a bar per series, for its present value."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_instant_queries(queries))
        .unit(unit)
        .min(0)
        .span(HALF)
        .height(TALL)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(_reduce_to_last())
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    )


def table_panel(table: MetricTable) -> tables.Panel:
    """Create a table of the present values."""
    panel = (
        tables.Panel()
        .title(table.title)
        .description(table.description)
        .datasource(DATASOURCE)
        .targets(_table_queries(table.columns))
        .unit(Unit.NUMBER)
        .span(FULL)
        .height(TALL)
        .filterable(True)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(_order_columns(table))
        .sort_by([common.TableSortByFieldState().display_name(table.sort_by).desc(True)])
    )
    for column in table.columns:
        panel.override_by_name(column.title, _column_overrides(column))
    return panel


def threshold_steps(*above: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """Build thresholds: the given color from each value on, `GOOD` below the first."""
    begin = Threshold(value=None, color=GOOD)
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([begin, *(Threshold(value=value, color=color) for value, color in above)])
    )


def dashed_thresholds() -> common.GraphThresholdsStyleConfig:
    """Draw thresholds as dashed lines."""
    return common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)


def dashed_line() -> list[DynamicConfigValue]:
    """Draw a series as a dashed line, for a series to compare with."""
    return [DynamicConfigValue("custom.lineStyle", LineStyle(fill="dash", dash=[10, 8]))]


def _range_queries(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [
        _build_query(query.expr, ref).legend_format(query.legend).range()
        for ref, query in _with_ref_ids(queries)
    ]


def _instant_queries(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [
        _build_query(query.expr, ref).legend_format(query.legend).instant()
        for ref, query in _with_ref_ids(queries)
    ]


def _table_queries(columns: Sequence[MetricColumn]) -> list[Builder[Dataquery]]:
    return [
        _build_query(column.expr, ref).instant().format(PromQueryFormat.TABLE)
        for ref, column in _with_ref_ids(columns)
    ]


def _build_query(expr: str, ref: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(DATASOURCE).expr(expr).ref_id(ref)


def _with_ref_ids(items: Sequence[_T]) -> Iterator[tuple[str, _T]]:
    # Grafana identifies the queries of a panel by letters.
    return zip(ascii_uppercase, items, strict=False)


def _table_legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
        .sort_by("Last *")
        .sort_desc(True)
        .show_legend(True)
    )


def _reduce_to_last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _order_columns(table: MetricTable) -> DataTransformerConfig:
    # Grafana names the value column of a query by its letter.
    names = table.labels | {
        f"Value #{ref}": column.title for ref, column in _with_ref_ids(table.columns)
    }
    return DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": {"Time": True},
            "indexByName": {name: index for index, name in enumerate(names)},
            "renameByName": names,
        },
    )


def _column_overrides(column: MetricColumn) -> list[DynamicConfigValue]:
    overrides = [DynamicConfigValue("unit", column.unit)]
    if column.is_gauge:
        overrides += [
            DynamicConfigValue("min", 0),
            DynamicConfigValue("max", 1),
            DynamicConfigValue("custom.cellOptions", TableBarGaugeCellOptions()),
        ]
    return overrides
