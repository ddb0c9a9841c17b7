"""The tables of `tandem-worker data show`."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from configs.dataset_summary import (
    SummaryTable,
    build_summary_tables,
    describe_crowding,
    describe_duplicates,
)
from configs.protocol.dataset_statistics import DatasetStatistics


def print_statistics(
    output: Console, statistics: DatasetStatistics, image_sizes: Iterable[tuple[int, int]]
) -> None:
    """Print all tables, then sentences about crowded images and near duplicates."""
    for summary in build_summary_tables(statistics, image_sizes):
        output.print(_create_table(summary))
    for line in (describe_crowding(statistics), *describe_duplicates(statistics)):
        if line:
            output.print(line, markup=False, soft_wrap=True)


def _create_table(summary: SummaryTable) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in summary.columns:
        is_number = column not in (summary.columns[0], *summary.texts)
        table.add_column(column, justify="right" if is_number else "left")
    for row in summary.rows:
        table.add_row(*map(escape, row))
    return table
