"""Tables that keep every value whole: ids are never cut, addresses are never wrapped."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from service.cli.console.wrapping import PART_OF_WORD, WORD, longest_word, wrap_text

_GAP = "  "
_NARROWEST = 16
"""Fewest characters of a folding column: an id in a name stays on one line."""


class OutputTable(Table):
    """A table in one of three layouts, all with complete values.

    On a terminal: columns, of which those in `folding` share the width that the others leave, and
    further lines for the cells in `below` if one of them does not fit beside the others. On a
    terminal that is too narrow for the columns: a block of lines for each row. In a file or pipe:
    a line for each row.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        folding: Sequence[str] = (),
        below: Sequence[str] = (),
        numbers: Sequence[str] = (),
    ) -> None:
        unknown = {*folding, *below, *numbers} - set(columns)
        assert not unknown, f"no columns: {unknown}"
        super().__init__(*columns)
        self._folding = [columns.index(name) for name in folding]
        self._below = [columns.index(name) for name in below]
        self._numbers = [columns.index(name) for name in numbers]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Measure as wide as the terminal: a table chooses its layout by the width it gets."""
        return Measurement(1, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [self._row_cells(index) for index in range(len(self.rows))]
        if not console.is_terminal:
            yield from _render_lines(self._layout_lines(rows), console=console)
            return
        if layout := self._choose_layout(rows, width=options.max_width):
            yield from _render_lines(
                self._layout_columns(rows, layout, console=console), console=console
            )
        else:
            yield from _render_lines(self._layout_blocks(rows), console=console)

    @property
    def _headers(self) -> list[Text]:
        return [Text(str(column.header)) for column in self.columns]

    def _row_cells(self, index: int) -> list[Text]:
        """Cells of a row; a cell is markup or Text."""
        style = self.rows[index].style or ""
        cells = []
        for column in self.columns:
            cell = list(column.cells)[index]
            text = cell if isinstance(cell, Text) else Text.from_markup(str(cell), emoji=False)
            text = Text(" ").join(text.split("\n"))
            text.style = Style.parse(str(style)) + Style.parse(str(text.style))
            cells.append(text)
        return cells

    def _layout_lines(self, rows: Sequence[Sequence[Text]]) -> Iterator[Text]:
        """A line for the headers, unless all are empty, and a line for each row; no empty cells."""
        headers = [self._headers] if any(map(len, self._headers)) else []
        lines = [*headers, *([cell or Text("-") for cell in cells] for cells in rows)]
        widths = {
            index: _widest(cells[index] for cells in lines) for index in range(len(self.columns))
        }
        for cells in lines:
            yield self._join(enumerate(cells), widths)

    def _layout_columns(
        self, rows: Sequence[Sequence[Text]], widths: dict[int, int], *, console: Console
    ) -> Iterator[Text]:
        """Columns that have a width on one line, the others below."""
        headers = self._headers
        if any(map(len, headers)):
            bold = [(index, Text(headers[index].plain, style="bold")) for index in widths]
            yield self._join(bold, widths)
            yield Text("─" * (sum(widths.values()) + len(_GAP) * (len(widths) - 1)), style="dim")
        for number, cells in enumerate(rows):
            folded = [
                _fold(cells[index], width, console=console) for index, width in widths.items()
            ]
            for parts in zip_longest(*folded, fillvalue=Text()):
                yield self._join(zip(widths, parts, strict=True), widths)
            below = [index for index in self._below if index not in widths and cells[index]]
            yield from _join_below(
                [(headers[index], cells[index]) for index in below], width=console.width
            )
            if self.rows[number].end_section and number + 1 < len(rows):
                yield Text()

    def _layout_blocks(self, rows: Sequence[Sequence[Text]]) -> Iterator[Text]:
        headers = self._headers
        label_width = _widest(headers)
        for number, cells in enumerate(rows):
            if number:
                yield Text()
            for header, cell in zip(headers, cells, strict=True):
                if cell:
                    label = Text(_pad(header.plain, label_width), style="dim")
                    yield Text.assemble(label, _GAP if label_width else "", cell)

    def _choose_layout(
        self, rows: Sequence[Sequence[Text]], *, width: int
    ) -> dict[int, int] | None:
        """Width of each column on a row's first line; None if columns do not fit.

        Those in `below` are on it if no column has to wrap then.
        """
        headers = self._headers
        needed = {
            index: _widest([headers[index], *(cells[index] for cells in rows)])
            for index in range(len(self.columns))
        }
        if sum(needed.values()) + len(_GAP) * (len(needed) - 1) <= width:
            return needed
        inline = {index: size for index, size in needed.items() if index not in self._below}
        fixed = sum(size for index, size in inline.items() if index not in self._folding)
        available = width - fixed - len(_GAP) * (len(inline) - 1)
        shares = _share({index: inline[index] for index in self._folding}, available)
        return None if shares is None else inline | shares

    def _join(self, cells: Iterable[tuple[int, Text]], widths: dict[int, int]) -> Text:
        line = Text()
        for position, (index, cell) in enumerate(cells):
            padding = " " * (widths[index] - cell.cell_len)
            gap = _GAP if position else ""
            parts = (padding, cell) if index in self._numbers else (cell, padding)
            line.append_text(Text.assemble(gap, *parts))
        line.rstrip()
        return line


class OutputFields:
    """Labels, each with a value; a value wraps between words beside its label.

    A value with a word that does not fit beside its label, e.g. an address, begins a line of its
    own and is not wrapped. In a file or pipe there is a line for each field.
    """

    def __init__(self, fields: Iterable[tuple[str, str | Text]]) -> None:
        self._fields = [
            (label, value if isinstance(value, Text) else Text.from_markup(value, emoji=False))
            for label, value in fields
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label_width = max((cell_len(label) for label, _ in self._fields), default=0)
        width = options.max_width - label_width - len(_GAP)
        for label, value in self._fields:
            head = Text(_pad(label, label_width), style="dim")
            if longest_word(value) > width:
                yield from _render_lines([Text(label, style="dim"), value], console=console)
                continue
            first, *following = wrap_text(value, width) or [Text()]
            lines = [Text.assemble(head, _GAP, first)]
            lines += [Text.assemble(" " * (label_width + len(_GAP)), line) for line in following]
            yield from _render_lines(lines, console=console)


def _join_below(cells: Sequence[tuple[Text, Text]], *, width: int) -> Iterator[Text]:
    """One line for all cells with labels if it fits, or without; else a line for each cell."""
    labeled = [Text.assemble((label.plain, "dim"), " ", cell) for label, cell in cells]
    for parts in (labeled, [cell for _, cell in cells]):
        line = Text.assemble(_GAP, Text(_GAP).join(parts))
        if line.cell_len <= width:
            yield from [line] if cells else []
            return
    yield from (Text.assemble(_GAP, cell) for _, cell in cells)


def _share(needed: dict[int, int], available: int) -> dict[int, int] | None:
    """Share `available` characters among columns; None if one would be too narrow.

    Columns that need less than an equal share get what they need; the others share the rest.
    """
    shares: dict[int, int] = {}
    for position, (index, size) in enumerate(sorted(needed.items(), key=lambda item: item[1])):
        remaining = available - sum(shares.values())
        shares[index] = min(size, remaining // (len(needed) - position))
        if shares[index] < min(size, _NARROWEST):
            return None
    return shares if available >= 0 else None


def _fold(text: Text, width: int, *, console: Console) -> list[Text]:
    """Wrap between words, or else after a hyphen or slash, or else anywhere."""
    if text.cell_len <= width:
        return [text]
    for word in (WORD, PART_OF_WORD):
        if longest_word(text, word=word) <= width:
            return wrap_text(text, width, word=word)
    lines = text.wrap(console, width, overflow="fold")
    for line in lines:
        line.rstrip()
    return list(lines)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _widest(texts: Iterable[Text]) -> int:
    return max((text.cell_len for text in texts), default=0)


def _render_lines(lines: Iterable[Text], *, console: Console) -> Iterator[Segment]:
    for line in lines:
        line.end = "\n"
        yield from line.render(console, end="\n")
