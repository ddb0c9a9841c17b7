"""Help pages: plain text, with the commands grouped by what one wants to do."""

import re
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from service.cli.console.commands import SECTIONS

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

_SENTENCE_END = re.compile(r"\.\s+(?=[A-Z])")


class GroupedCommands(TyperGroup):
    """Lists the commands of `tandem` by section, and those of a group in one list.

    The page is plain text: typer's own one, with panels, imports twice as much.
    """

    def invoke(self, ctx: "Context") -> Any:
        """Run the command; errors in its arguments lose the introduction that pydantic adds."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """Write the sections, each a list of names and first sentences."""
        names = self.list_commands(ctx)
        sections = SECTIONS if ctx.parent is None else {"Commands": tuple(names)}
        for title, members in sections.items():
            rows = [(name, _first_sentence(self.commands[name].help)) for name in members]
            with formatter.section(title):
                formatter.write_dl(rows)


def create_group(text: str) -> typer.Typer:
    """Create a group of commands whose help page begins with `text`."""
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, cls=GroupedCommands)


def _first_sentence(text: str | None) -> str:
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    return _SENTENCE_END.split(paragraph)[0].rstrip(".") + "."
