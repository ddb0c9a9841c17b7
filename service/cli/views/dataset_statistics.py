"""Tables of a dataset's statistics."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape

from configs.dataset_summary import (
    SummaryTable,
    build_summary_tables,
    describe_crowding,
    describe_duplicates,
)
from service.cli import console

if TYPE_CHECKING:
    from service.api.schemas.registry import StatisticsView
    from service.cli.console.tables import OutputTable


def build_statistics_tables(view: "StatisticsView") -> "Iterator[OutputTable]":
    """Tables that share the width of the terminal."""
    sizes = [item.image_size for item in view.resized]
    for summary in build_summary_tables(view, sizes):
        yield _create_table(summary)


def describe_statistics(view: "StatisticsView") -> list[str]:
    crowding = describe_crowding(view)
    return [*([crowding] if crowding else []), *describe_duplicates(view)]


def _create_table(summary: SummaryTable) -> "OutputTable":
    first = summary.columns[0]
    table = console.create_table(
        *summary.columns,
        folding=(first, *(name for name in summary.texts if name == "busiest image")),
        numbers=[name for name in summary.columns if name not in (first, *summary.texts)],
    )
    for row in summary.rows:
        table.add_row(*map(escape, row))
    return table
