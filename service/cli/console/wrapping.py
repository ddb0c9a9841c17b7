"""Wrapping of text between words; addresses and commands stay in one piece."""

import re
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

UNLIMITED = 1_000_000
"""Width, in characters, of output that is not a terminal: nothing is wrapped."""

WORD = re.compile(r"(?:`[^`\n]*`|\S)+\s*")
"""A word, or a command in backticks, with the spaces that follow."""

PART_OF_WORD = re.compile(r"[^\s/_,=-]*[/_,=-]+\s*|[^\s/_,=-]+\s*")
"""A part of a word, up to a hyphen, a slash and the like."""


class OutputConsole(Console):
    """Wraps text between words on a terminal, and nowhere in a file or pipe."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, emoji=False)
        if not self.is_terminal:
            self.width = UNLIMITED

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as `rich.console.Console.print` does, without cutting a word or a line."""
        if not options.get("soft_wrap"):
            objects = tuple(WordWrapped.from_renderable(item) for item in objects)
        super().print(*objects, **({"crop": False} | options))


class WordWrapped:
    """Text that wraps between words; a word that is longer than a line is not split."""

    def __init__(self, text: Text) -> None:
        self._text = text

    @classmethod
    def from_renderable(cls, item: RenderableType) -> RenderableType:
        """Wrap markup and text, also in a group; return other renderables unchanged."""
        if isinstance(item, str):
            return cls(Text.from_markup(item, emoji=False))
        if isinstance(item, Text):
            return cls(item)
        if isinstance(item, Group):
            return Group(*map(cls.from_renderable, item.renderables))
        return item

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in wrap_text(self._text, options.max_width):
            yield from line.render(console, end="\n")


def wrap_text(text: Text, width: int, *, word: re.Pattern[str] = WORD) -> list[Text]:
    """Break lines between words; a word that is longer than `width` gets a line of its own."""
    lines = []
    for paragraph in text.split("\n", allow_blank=True):
        for line in paragraph.divide(_line_breaks(paragraph, width, word=word)):
            line.rstrip()
            lines.append(line)
    return lines


def longest_word(text: Text, *, word: re.Pattern[str] = WORD) -> int:
    """Length of the longest word in characters."""
    lengths = (cell_len(match.group().rstrip()) for match in word.finditer(text.plain))
    return max(lengths, default=0)


def _line_breaks(paragraph: Text, width: int, *, word: re.Pattern[str]) -> list[int]:
    breaks, start_of_line = [], 0
    for match in word.finditer(paragraph.plain):
        start, end = match.start(), match.start() + len(match.group().rstrip())
        if start > start_of_line and paragraph[start_of_line:end].cell_len > width:
            breaks.append(start)
            start_of_line = start
    return breaks
