"""`tandem doctor`."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.session import load_settings, load_stack_config

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.stack.trainer import CheckResult


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Examine this machine and the stack, and say what to do."""
    from dataclasses import asdict

    from service.doctor import run_checks

    config = load_stack_config()
    if as_json:
        findings = tuple(run_checks(config, database_url=load_settings().sqlalchemy_url))
        console.print_json([asdict(finding) for finding in findings])
    else:
        with console.output().status("Examining (the trainer takes a few seconds) …"):
            findings = tuple(run_checks(config, database_url=load_settings().sqlalchemy_url))
        console.output().print(_rendered(findings))
    if any(not finding.ok for finding in findings):
        raise typer.Exit(1)


def _rendered(findings: "tuple[CheckResult, ...]") -> "RenderableType":
    from rich.console import Group
    from rich.markup import escape

    shown = console.table("", "what", "found", folding=("found",))
    for finding in findings:
        sign = "[green]✔[/]" if finding.ok else "[red]✘[/]"
        shown.add_row(sign, escape(finding.name), escape(finding.detail))
    broken = [finding for finding in findings if not finding.ok]
    advice = [f"[cyan]→[/] [bold]{escape(f.name)}[/]: {escape(f.advice)}" for f in broken]
    return Group(shown, *(advice or ["[green]Everything is as it should be.[/]"]))
