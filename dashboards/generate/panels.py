"""How does a panel look: one function for each kind, so that all of a kind look alike."""

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
"""As `grafana/provisioning/datasources` declares it."""

FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4
"""Widths: a dashboard has 24 columns."""

TALL, SHORT = 8, 4
"""Heights of a panel with a time axis, and of one with a number."""

GOOD, WARN, BAD = "green", "orange", "red"


class Unit(StrEnum):
    """What a panel's numbers are, by Grafana's names."""

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
    """A question to Prometheus, and what the legend calls the answer's series."""

    expr: str
    legend: str


@dataclass(frozen=True)
class MetricColumn:
    """A column of a table: a number for each row."""

    title: str
    expr: str
    unit: Unit
    is_gauge: bool = False
    """Whether a share of one is drawn as a bar."""


@dataclass(frozen=True)
class MetricTable:
    """A row for each combination of labels, a column for each question."""

    title: str
    description: str
    labels: dict[str, str]
    """Which labels become columns, with their titles."""

    columns: Sequence[MetricColumn] = field(default_factory=tuple)
    sort_by: str = ""


def time_series_panel(
    title: str, description: str, *queries: Query, unit: Unit
) -> timeseries.Panel:
    """What changes over time."""
    return (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_over_time(queries))
        .unit(unit)
        .axis_soft_min(0)
        .span(HALF)
        .height(TALL)
        .line_width(2)
        .fill_opacity(8)
        .show_points(VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )


def stacked_panel(title: str, description: str, *queries: Query, unit: Unit) -> timeseries.Panel:
    """Parts of a whole over time."""
    stacking = common.StackingConfig().mode(StackingMode.NORMAL).group("A")
    return (
        time_series_panel(title, description, *queries, unit=unit)
        .stacking(stacking)
        .fill_opacity(30)
    )


def stat_panel(title: str, description: str, *queries: Query, unit: Unit) -> stat.Panel:
    """The last value, large, with its course behind it."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_over_time(queries))
        .unit(unit)
        .span(SIXTH)
        .height(SHORT)
        .graph_mode(BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.VALUE)
        .reduce_options(_last_value())
        .thresholds(threshold_steps())
    )


def instant_stat_panel(title: str, description: str, *queries: Query, unit: Unit) -> stat.Panel:
    """The value now and none of before: what is away must not look as it did last."""
    return (
        stat_panel(title, description, *queries, unit=unit)
        .targets(_now(queries))
        .graph_mode(BigValueGraphMode.NONE)
    )


def bar_gauge_panel(title: str, description: str, *queries: Query, unit: Unit) -> bargauge.Panel:
    """The value of each series now, one below the other."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(_now(queries))
        .unit(unit)
        .min(0)
        .span(HALF)
        .height(TALL)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(_last_value())
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    )


def table_panel(asked: MetricTable) -> tables.Panel:
    """How everything is at this moment, row by row."""
    panel = (
        tables.Panel()
        .title(asked.title)
        .description(asked.description)
        .datasource(DATASOURCE)
        .targets(_as_table(asked.columns))
        .unit(Unit.NUMBER)
        .span(FULL)
        .height(TALL)
        .filterable(True)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(_columns_in_order(asked))
        .sort_by([common.TableSortByFieldState().display_name(asked.sort_by).desc(True)])
    )
    for column in asked.columns:
        panel.override_by_name(column.title, _look_of(column))
    return panel


def threshold_steps(*above: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """Colours from values on; good below the first."""
    begin = Threshold(value=None, color=GOOD)
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([begin, *(Threshold(value=value, color=color) for value, color in above)])
    )


def dashed_thresholds() -> common.GraphThresholdsStyleConfig:
    """Thresholds drawn as lines."""
    return common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)


def dashed_line() -> list[DynamicConfigValue]:
    """A series that is there to compare with."""
    return [DynamicConfigValue("custom.lineStyle", LineStyle(fill="dash", dash=[10, 8]))]


def _over_time(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [
        _asked(query.expr, ref).legend_format(query.legend).range()
        for ref, query in _lettered(queries)
    ]


def _now(queries: Sequence[Query]) -> list[Builder[Dataquery]]:
    return [
        _asked(query.expr, ref).legend_format(query.legend).instant()
        for ref, query in _lettered(queries)
    ]


def _as_table(columns: Sequence[MetricColumn]) -> list[Builder[Dataquery]]:
    return [
        _asked(column.expr, ref).instant().format(PromQueryFormat.TABLE)
        for ref, column in _lettered(columns)
    ]


def _asked(expr: str, ref: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(DATASOURCE).expr(expr).ref_id(ref)


def _lettered(items: Sequence[_T]) -> Iterator[tuple[str, _T]]:
    # Grafana tells queries of a panel apart by letters.
    return zip(ascii_uppercase, items, strict=False)


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
        .sort_by("Last *")
        .sort_desc(True)
        .show_legend(True)
    )


def _last_value() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _columns_in_order(asked: MetricTable) -> DataTransformerConfig:
    # Grafana calls a question's numbers by its letter.
    names = asked.labels | {
        f"Value #{ref}": column.title for ref, column in _lettered(asked.columns)
    }
    return DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": {"Time": True},
            "indexByName": {name: place for place, name in enumerate(names)},
            "renameByName": names,
        },
    )


def _look_of(column: MetricColumn) -> list[DynamicConfigValue]:
    look = [DynamicConfigValue("unit", column.unit)]
    if column.is_gauge:
        look += [
            DynamicConfigValue("min", 0),
            DynamicConfigValue("max", 1),
            DynamicConfigValue("custom.cellOptions", TableBarGaugeCellOptions()),
        ]
    return look
