"""`tandem fsck` and `tandem prune`: check the database and the files, and delete what is old."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.session import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import JsonValue

    from service.domain.retention import Pruned, PrunedKind
    from service.usecases.fsck import Fault

_MIB = 2**20


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

    documents: list[JsonValue] = []
    num_faults, num_remaining, has_repair = 0, 0, False
    with open_context(load_settings()) as ctx:
        for fault in find_faults(ctx):
            is_repaired = repair and fault.apply_repair is not None
            if fault.apply_repair is not None and repair:
                fault.apply_repair()
            num_faults += 1
            num_remaining += not is_repaired
            has_repair = has_repair or fault.apply_repair is not None
            if as_json:
                documents.append(_to_document(fault))
            else:
                _print(fault, is_repaired=is_repaired)
    if as_json:
        console.print_json(documents)
    elif not num_faults:
        console.output().print("[green]✔[/] The database agrees with Ray, MLflow and the files.")
    elif num_remaining and not repair and has_repair:
        console.output().print("`tandem fsck --repair` repairs the faults that can be repaired.")
    if num_remaining:
        raise typer.Exit(1)


def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted.")
    ] = False,
    as_json: console.AsJson = False,
) -> None:
    """Delete what is older than TANDEM_RETENTION_* says; the service does it every hour, too."""
    from service.context import open_context
    from service.domain.errors.systems import Unreachable
    from service.domain.retention import Pruned
    from service.usecases import retention

    totals: dict[PrunedKind, Pruned] = {}
    error: Unreachable | None = None
    with open_context(load_settings()) as ctx:
        try:
            for step in retention.prune(ctx, is_dry_run=dry_run):
                totals[step.kind] = totals.get(step.kind, Pruned(step.kind, 0)) + step
        except Unreachable as ray_error:  # after everything but Ray's jobs
            error = ray_error
    totals = {kind: total for kind, total in totals.items() if total.number or total.num_protected}
    if as_json:
        documents: list[JsonValue] = [
            {
                "kind": total.kind,
                "number": total.number,
                "size_bytes": total.size_bytes,
                "protected": total.num_protected,
            }
            for total in totals.values()
        ]
        console.print_json(documents)
    else:
        _print_totals(totals.values(), is_dry_run=dry_run)
    if error is not None:
        raise error


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


def _print_totals(totals: "Iterable[Pruned]", *, is_dry_run: bool) -> None:
    out = console.output()
    verb = "would be deleted" if is_dry_run else "deleted"
    lines = []
    for total in totals:
        size = f", {total.size_bytes / _MIB:,.1f} MiB" if total.size_bytes else ""
        protected = (
            f"; {total.num_protected:,} stay, as others refer to them"
            if total.num_protected
            else ""
        )
        name = total.kind.replace("_", " ")
        lines.append(f"{name}: {total.number:,} {verb}{size}{protected}")
    for line in lines:
        out.print(line)
    if not lines:
        out.print("Nothing is older than the retention settings say.")
