"""`tandem doctor`: check this machine and the stack."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.session import load_settings, load_stack_config

if TYPE_CHECKING:
    from service.stack.trainer import CheckResult


def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="Test mmcv's operators again, even if nothing changed.")
    ] = False,
    as_json: console.AsJson = False,
) -> None:
    """Check this machine and the stack, and show how to fix what fails."""

    if as_json:
        results = _run_checks(reuses_proof=not full)
        console.print_json(results)
    else:
        with console.output().status("Checking; the worker environment takes a few seconds …"):
            results = _run_checks(reuses_proof=not full)
        _print(results)
    if any(not result.ok for result in results):
        raise typer.Exit(1)


def _run_checks(*, reuses_proof: bool) -> "tuple[CheckResult, ...]":
    from service.doctor import run_checks

    settings = load_settings()
    return tuple(
        run_checks(
            load_stack_config(),
            database_url=settings.sqlalchemy_url,
            service_url=settings.service_url,
            reuses_proof=reuses_proof,
        )
    )


def _print(results: "tuple[CheckResult, ...]") -> None:
    """Print a table of all checks, then what to do about those that failed or were skipped."""
    from rich.markup import escape

    out = console.output()
    table = console.create_table("", "check", "result", folding=("result",))
    for result in results:
        sign = "[green]✔[/]" if result.ok else "[red]✘[/]"
        table.add_row("-" if result.skipped else sign, escape(result.name), escape(result.detail))
    out.print(table)
    for result in results:
        if result.skipped or not result.ok:
            out.print(f"[cyan]→[/] [bold]{escape(result.name)}[/]: {escape(result.advice)}")
    if all(result.ok for result in results):
        is_complete = not any(result.skipped for result in results)
        out.print(f"[green]{'All' if is_complete else 'All other'} checks passed.[/]")
