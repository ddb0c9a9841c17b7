"""`tandem fsck`: compare the database with Ray, MLflow and the files."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.session import load_settings

if TYPE_CHECKING:
    from pydantic import JsonValue

    from service.usecases.fsck import Fault


def register(app: typer.Typer) -> None:
    """Add the command `tandem fsck`."""
    app.command()(fsck)


def fsck(
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair the faults that can be repaired.")
    ] = False,
    as_json: console.AsJson = False,
) -> None:
    """Compare the database with Ray, MLflow, checkpoints and files. Runs may continue meanwhile.

    The exit code is 1 if a fault remains, 0 if there is none or all were repaired.
    """
    from service.context import open_context
    from service.usecases.fsck import find_faults

    faults: list[Fault] = []
    num_remaining = 0
    with open_context(load_settings()) as ctx:
        for fault in find_faults(ctx):
            faults.append(fault)
            is_repaired = repair and fault.apply_repair is not None
            if fault.apply_repair is not None and repair:
                fault.apply_repair()
            num_remaining += not is_repaired
            if not as_json:
                _print(fault, is_repaired=is_repaired)
    if as_json:
        documents: list[JsonValue] = [_to_document(fault) for fault in faults]
        console.print_json(documents)
    elif not faults:
        console.output().print("[green]✔[/] The database agrees with Ray, MLflow and the files.")
    elif num_remaining and not repair and any(fault.apply_repair for fault in faults):
        console.output().print("`tandem fsck --repair` repairs the faults that can be repaired.")
    if num_remaining:
        raise typer.Exit(1)


def _print(fault: "Fault", *, is_repaired: bool) -> None:
    from rich.text import Text

    mark, color = ("✔", "green") if is_repaired else ("✘", "red")
    line = Text.assemble((f"{mark} ", color))
    if not fault.message.startswith(fault.subject):  # as in "Ray does not answer"
        line.append(f"{fault.subject}: ", style="bold")
    line.append(fault.message)
    if fault.repair is not None:
        line.append(f" {fault.repair}" if is_repaired else f" Repair: {fault.repair}", style="dim")
    console.output().print(line)


def _to_document(fault: "Fault") -> "JsonValue":
    return {
        "kind": fault.kind,
        "subject": fault.subject,
        "message": fault.message,
        "repair": fault.repair,
    }
