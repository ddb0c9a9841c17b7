"""`tandem fsck`: do rows, Ray, MLflow and the disk agree?"""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.session import load_settings

if TYPE_CHECKING:
    from pydantic import JsonValue

    from service.usecases.fsck import Fault


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(fsck)


def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare runs with Ray, MLflow, checkpoints and files; they may go on meanwhile.

    Ends with 1 if something does not agree, with 0 if everything does or was mended.
    """
    from service.main import open_context
    from service.usecases.fsck import find_faults

    found: list[Fault] = []
    left = 0
    with open_context(load_settings()) as ctx:
        for fault in find_faults(ctx):
            found.append(fault)
            is_mended = repair and fault.apply_repair is not None
            if fault.apply_repair is not None and repair:
                fault.apply_repair()
            left += not is_mended
            if not as_json:
                _say(fault, is_mended=is_mended)
    if as_json:
        documents: list[JsonValue] = [_document(fault) for fault in found]
        console.print_json(documents)
    elif not found:
        console.output().print("[green]✔[/] Rows, Ray, MLflow and the disk agree.")
    elif left and not repair and any(fault.apply_repair for fault in found):
        console.output().print("`tandem fsck --repair` mends what can be mended.")
    if left:
        raise typer.Exit(1)


def _say(fault: "Fault", *, is_mended: bool) -> None:
    from rich.text import Text

    mark, colour = ("✔", "green") if is_mended else ("✘", "red")
    line = Text.assemble((f"{mark} ", colour), (fault.subject, "bold"), f" {fault.message}")
    if fault.repair is not None:
        line.append(f" {fault.repair}" if is_mended else f" Repair: {fault.repair}", style="dim")
    console.output().print(line, soft_wrap=True)


def _document(fault: "Fault") -> "JsonValue":
    return {
        "kind": fault.kind,
        "about": fault.subject,
        "what": fault.message,
        "repair": fault.repair,
    }
